"""Pressure stall totals (PSI) of the system and, where v2 groups exist, of the container.

PSI needs no controller: a hybrid machine, whose CPU and memory are on v1, still keeps the totals
per v2 group.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from pinchpoint.samplers.cached_file import CachedFile
from pinchpoint.samplers.control_group import ControlGroups
from pinchpoint.samplers.source import PROC, Intern, SourceUnavailable
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import PressureSample, Sample

RESOURCES = ("cpu", "memory", "io")
MICROSECOND_NS = 1_000

REASONS = {
    errno.ENOENT: (
        "the kernel keeps no pressure totals (/proc/pressure is missing); "
        "it needs CONFIG_PSI, and psi=1 on the kernel command line where the default is off"
    ),
    errno.EOPNOTSUPP: (
        "pressure totals are switched off in this kernel; boot it with psi=1 to switch them on"
    ),
    errno.EACCES: (
        "reading /proc/pressure is not permitted here; allow it in the container's security profile"
    ),
    errno.EPERM: (
        "reading /proc/pressure is blocked by a security filter; "
        "allow it in the container's security profile"
    ),
}


class PressureSampler:
    """One `PressureSample` for `system` and one for `container`, whichever can be read."""

    name = "pressure"

    def __init__(self, intern: Intern, proc: Path = PROC) -> None:
        self._intern = intern
        self._groups = ControlGroups(proc)
        self._system = {r: CachedFile(proc / "pressure" / r) for r in RESOURCES}
        self._container: dict[str, CachedFile] = {}

    def sample(self, now_ns: int) -> Sequence[Sample]:
        """The totals now.

        Raises:
            SourceUnavailable: neither the system's nor the container's can be read.
            OSError: the system's failed in a way that may pass.
        """
        if self._groups.refresh():
            self._open_container()
        container, _ = _read(self._container)
        system, failure = _read(self._system)
        # The system's `cpu full` is undefined and always 0: Documentation/accounting/psi.rst.
        system.pop("cpu_full_ns", None)
        samples = self._samples(now_ns, {"system": system, "container": container})
        if not samples and failure is not None:
            _raise(failure)
        return samples

    def close(self) -> None:
        """Release the descriptors."""
        self._groups.close()
        for file in (*self._system.values(), *self._container.values()):
            file.close()

    def _samples(self, now_ns: int, totals: dict[str, dict[str, int]]) -> list[Sample]:
        return [
            PressureSample(now_ns, self._intern(NameKind.OTHER, scope), **values)
            for scope, values in totals.items()
            if values
        ]

    def _open_container(self) -> None:
        for file in self._container.values():
            file.close()
        self._container = {}
        group = self._groups.find_unified()
        # Every group but the root has this file, also where a namespace calls the group "/".
        if group is not None and (group.directory / "cgroup.events").exists():
            self._container = {r: CachedFile(group.directory / f"{r}.pressure") for r in RESOURCES}


def _read(files: dict[str, CachedFile]) -> tuple[dict[str, int], OSError | None]:
    """What can be read by field name, and the first failure."""
    totals: dict[str, int] = {}
    failure: OSError | None = None
    for resource, file in files.items():
        try:
            totals.update(_totals(resource, file.read()))
        except OSError as error:
            failure = failure or error
    return totals, failure


def _totals(resource: str, text: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        _, found, total = rest.partition("total=")
        if kind in ("some", "full") and found and total.isdecimal():
            totals[f"{resource}_{kind}_ns"] = int(total) * MICROSECOND_NS
    return totals


def _raise(failure: OSError) -> None:
    reason = REASONS.get(failure.errno or 0)
    if reason is None:
        raise failure
    raise SourceUnavailable(reason) from failure
