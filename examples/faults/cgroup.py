"""A CPU control group of our own, under cgroup v1 or v2, whichever has the cpu controller."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_PERIOD_US = 100_000
_REMOVE_TIMEOUT_S = 2.0


class CgroupUnavailable(OSError):
    """A CPU group cannot be made here; the message says why."""


@dataclass(frozen=True)
class _Hierarchy:
    version: int
    mount: Path
    # The part of the hierarchy that the mount shows; "/" unless a container bind-mounts a branch.
    root: str


class CpuGroup:
    """A group that processes can be moved into and that is gone after ``close``."""

    def __init__(self, pid: int, name: str) -> None:
        """Make the group near the one that ``pid`` is in, and move nothing yet."""
        self._hierarchy = _cpu_hierarchy()
        self._home = _group_of(pid, self._hierarchy)
        self._path = _parent_for(self._home, self._hierarchy) / name
        try:
            self._path.mkdir()
        except OSError as error:
            raise CgroupUnavailable(
                f"cannot create a control group in {self._path.parent}: {error.strerror}"
            ) from None

    def add(self, pid: int) -> None:
        """Move a process, with all its threads, into the group."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def limit(self, cores: float) -> None:
        """Allow that many cores, on average over 100 ms."""
        quota_us = int(cores * _PERIOD_US)
        if self._hierarchy.version == 1:
            (self._path / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (self._path / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (self._path / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")

    def close(self) -> None:
        """Lift the limit, move what is left back to where it came from and remove the group."""
        with contextlib.suppress(OSError):
            self._lift()
        for pid in _pids(self._path):
            # A process that ended in the meantime needs no moving.
            with contextlib.suppress(OSError):
                (self._home / "cgroup.procs").write_text(str(pid))
        deadline_s = time.monotonic() + _REMOVE_TIMEOUT_S
        while self._path.exists():
            try:
                self._path.rmdir()
            except OSError:
                # A process on its way out keeps the group busy for a moment.
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.02)

    def _lift(self) -> None:
        if self._hierarchy.version == 1:
            (self._path / "cpu.cfs_quota_us").write_text("-1")
        else:
            (self._path / "cpu.max").write_text("max")


def why_unavailable() -> str | None:
    """Return None when a process can be given a quota here, else a sentence that says why not.

    The only honest test is to do it, with a process of our own that sleeps.
    """
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(30)"])
    try:
        group = CpuGroup(sleeper.pid, f"pinchpoint-check-{os.getpid()}")
        try:
            group.limit(1.0)
            group.add(sleeper.pid)
        finally:
            group.close()
    except OSError as error:
        return f"this machine gives no right to set a CPU quota: {error}"
    finally:
        sleeper.kill()
        sleeper.wait()
    return None


def _cpu_hierarchy() -> _Hierarchy:
    """Return the hierarchy with the cpu controller; v1 first, as a controller is in only one."""
    version_2: _Hierarchy | None = None
    for line in _read_lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields = before.split()
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup" and "cpu" in options.split(","):
            return _Hierarchy(1, Path(fields[4]), fields[3])
        if kind == "cgroup2":
            version_2 = _Hierarchy(2, Path(fields[4]), fields[3])
    if version_2 is None:
        raise CgroupUnavailable("no control group with the cpu controller is mounted")
    return version_2


def _group_of(pid: int, hierarchy: _Hierarchy) -> Path:
    for line in _read_lines(f"/proc/{pid}/cgroup"):
        _, controllers, path = line.split(":", 2)
        if ("cpu" in controllers.split(",")) if hierarchy.version == 1 else controllers == "":
            inside = os.path.relpath(path, hierarchy.root)
            if inside.startswith(".."):
                raise CgroupUnavailable(f"the control group of process {pid} is not visible here")
            return hierarchy.mount / inside
    raise CgroupUnavailable(f"process {pid} is in no control group with the cpu controller")


def _parent_for(home: Path, hierarchy: _Hierarchy) -> Path:
    """Return where a child of ours gets the cpu controller.

    Under v2 a group with processes cannot hand controllers to children, so it is an ancestor.
    """
    if hierarchy.version == 1:
        return home
    candidate = home
    while True:
        enabled = (candidate / "cgroup.subtree_control").read_text().split()
        if "cpu" in enabled:
            return candidate
        if candidate == hierarchy.mount:
            raise CgroupUnavailable("the cpu controller is enabled for no group above the server")
        candidate = candidate.parent


def _pids(group: Path) -> list[int]:
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _read_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError as error:
        raise CgroupUnavailable(f"cannot read {path}: {error.strerror}") from None
