"""Which control groups this process is in, and the directories they are seen at.

A controller is bound either to its own v1 hierarchy or to the v2 one, so the choice is made per
controller: hybrid machines have `cpu` on v1 beside a v2 tree without controllers.

What the kernel calls the group (/proc/self/cgroup) and where it is mounted (mountinfo) differ in
containers: a container without a cgroup namespace sees the host's name, and only its own part of
the tree. The mount's root says how much of the name the mount point stands for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from pinchpoint.samplers.cached_file import CachedFile
from pinchpoint.samplers.mounts import Mount, parse_mounts
from pinchpoint.samplers.source import PROC

DEPTH_MAX = 16
"""Levels from a group up to its mount that are looked at; Kubernetes has five."""


class Group(NamedTuple):
    """A group's directory, the mount it is seen through and the hierarchy's version."""

    directory: Path
    mount: Path
    version: int

    def lineage(self) -> list[Path]:
        """The group and its visible ancestors, nearest first."""
        levels = [self.directory]
        while levels[-1] != self.mount and len(levels) < DEPTH_MAX:
            levels.append(levels[-1].parent)
        return levels


class ControlGroups:
    """Follows the process as it is moved between groups."""

    def __init__(self, proc: Path = PROC) -> None:
        self._membership_file = CachedFile(proc / "self" / "cgroup")
        self._mountinfo = proc / "self" / "mountinfo"
        self._membership: str | None = None
        self._paths: dict[str, str] = {}
        self._mounts: tuple[Mount, ...] = ()

    def refresh(self) -> bool:
        """Read the membership again; True if it changed (then `find` anew)."""
        text = self._membership_file.read_or_none() or ""
        if text == self._membership:
            return False
        self._membership = text
        self._paths = _parse_membership(text)
        self._mounts = self._read_mounts()
        return True

    def forget(self) -> None:
        """Make the next `refresh` report a change: a group's files went away."""
        self._membership = None

    def find(self, controller: str) -> Group | None:
        """The group that accounts for `controller`, on v1 where it is bound there, else v2."""
        if controller in self._paths:
            return self._locate(self._paths[controller], self._v1_mounts(controller), 1)
        return self.find_unified()

    def find_unified(self) -> Group | None:
        """The v2 group, which a hybrid machine has as well, without controllers."""
        if "" not in self._paths:
            return None
        mounts = [mount for mount in self._mounts if mount.kind == "cgroup2"]
        return self._locate(self._paths[""], mounts, 2)

    def close(self) -> None:
        """Release the descriptor."""
        self._membership_file.close()

    def _v1_mounts(self, controller: str) -> list[Mount]:
        return [m for m in self._mounts if m.kind == "cgroup" and controller in m.options]

    def _read_mounts(self) -> tuple[Mount, ...]:
        try:
            text = self._mountinfo.read_text("utf-8", "replace")
        except OSError:
            return ()
        return tuple(m for m in parse_mounts(text) if m.kind in ("cgroup", "cgroup2"))

    def _locate(self, path: str, mounts: list[Mount], version: int) -> Group | None:
        fallback = None
        # The most specific root first: it needs the least of the path below it.
        for mount in sorted(mounts, key=lambda mount: len(mount.root), reverse=True):
            point = Path(mount.point)
            below = _below(path, mount.root)
            if below is not None and (point / below).is_dir():
                return Group(point / below, point, version)
            if fallback is None and point.is_dir():
                fallback = Group(point, point, version)
        return fallback


def inode(directory: Path) -> int | None:
    """The identity of a group, the same for every process that is in it."""
    try:
        return os.stat(directory).st_ino
    except OSError:
        return None


def _parse_membership(text: str) -> dict[str, str]:
    """Controller to path; the v2 group under the empty name."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                paths[controller] = parts[2]
    return paths


def _below(path: str, root: str) -> str | None:
    """What of `path` lies below `root`; None where the mount does not show it."""
    # "/.." is a group outside the cgroup namespace: no name leads there.
    if path.startswith("/..") or root.startswith("/.."):
        return None
    if root == "/":
        return path.strip("/")
    if path == root:
        return ""
    return path[len(root) + 1 :] if path.startswith(root + "/") else None
