"""CPU and memory accounts of the container, from cgroup v1 or v2.

Each controller is read at the process' own group or, where that has no limit, at its nearest
ancestor with one: that is the group whose counters tell of the limit. The group may change while
the process runs (it is moved, or a limit appears further up); counters then jump, and `inode`
changes with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pinchpoint.samplers.cached_file import CachedFile
from pinchpoint.samplers.control_group import ControlGroups, Group, inode
from pinchpoint.samplers.source import PROC, SourceNoData, SourceUnavailable
from pinchpoint.schema.samples import CgroupCpuSample, CgroupMemorySample, Sample

UNLIMITED_BYTES = 1 << 60
"""v1 says "no limit" with LONG_MAX rounded down to a page: above this no limit is meant."""

MICROSECOND_NS = 1_000

NOT_VISIBLE = (
    "no cgroup of this process is visible, so its limits cannot be read; "
    "mount /sys/fs/cgroup read-only in the container"
)


class CgroupSampler:
    """`CgroupCpuSample` and `CgroupMemorySample`, whichever can be read."""

    name = "cgroup"

    def __init__(self, proc: Path = PROC) -> None:
        self._groups = ControlGroups(proc)
        self._cpu: Sequence[_Level] = ()
        self._memory: Sequence[_Level] = ()
        self._cpuacct: Group | None = None

    def sample(self, now_ns: int) -> Sequence[Sample]:
        """The container's accounts now.

        Raises:
            SourceUnavailable: no group is visible.
            SourceNoData: the group has nothing to read at the moment.
        """
        if self._groups.refresh():
            self._open()
        if not self._cpu and not self._memory:
            raise SourceUnavailable(NOT_VISIBLE)
        samples = tuple(self._read(now_ns))
        if not samples:
            # The group may have been removed and made again: look for it at the next run.
            self._groups.forget()
            raise SourceNoData
        return samples

    def close(self) -> None:
        """Release the descriptors."""
        self._groups.close()
        self._close_levels()

    def _open(self) -> None:
        self._close_levels()
        cpu = self._groups.find("cpu")
        memory = self._groups.find("memory")
        self._cpu = _levels(cpu, "cpu.cfs_quota_us", "cpu.max")
        self._memory = _levels(memory, "memory.limit_in_bytes", "memory.max")
        if cpu is not None and cpu.version == 1:
            self._open_cpuacct(cpu)

    def _open_cpuacct(self, cpu: Group) -> None:
        """v1 keeps usage in another controller, mounted together with `cpu` or on its own."""
        account = self._groups.find("cpuacct")
        if account is None or account.version != 1:
            return
        own = account.directory.relative_to(account.mount)
        same = own == cpu.directory.relative_to(cpu.mount)
        for level in self._cpu:
            below = level.directory.relative_to(cpu.mount) if same else own
            level.usage = CachedFile(account.mount / below / "cpuacct.usage")

    def _close_levels(self) -> None:
        for level in (*self._cpu, *self._memory):
            level.close()
        self._cpu = self._memory = ()

    def _read(self, now_ns: int) -> Iterable[Sample]:
        if cpu := _nearest(self._cpu, _cpu_limit):
            cpu_sample = _read_cpu(now_ns, *cpu)
            if cpu_sample is not None:
                yield cpu_sample
        if memory := _nearest(self._memory, _memory_limit):
            memory_sample = _read_memory(now_ns, *memory)
            if memory_sample is not None:
                yield memory_sample


class _Level:
    """One group on the way up, and its files."""

    def __init__(self, directory: Path, version: int, limit_file: str) -> None:
        self.directory = directory
        self.version = version
        self.inode = inode(directory)
        self.limit = CachedFile(directory / limit_file)
        self.usage: CachedFile | None = None
        self._files: dict[str, CachedFile] = {}

    def text(self, name: str) -> str | None:
        """A file of this group, or None where it has none."""
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = CachedFile(self.directory / name)
        return file.read_or_none()

    def number(self, name: str) -> int | None:
        """A file that holds one number."""
        return _number(self.text(name))

    def close(self) -> None:
        """Release the descriptors."""
        self.limit.close()
        if self.usage is not None:
            self.usage.close()
        for file in self._files.values():
            file.close()


def _levels(group: Group | None, v1_limit: str, v2_limit: str) -> list[_Level]:
    if group is None:
        return []
    limit_file = v1_limit if group.version == 1 else v2_limit
    return [_Level(path, group.version, limit_file) for path in group.lineage()]


def _nearest(
    levels: Sequence[_Level], limit_of: Callable[[_Level], float | None]
) -> tuple[_Level, float | None] | None:
    """The nearest level with a limit, or the process' own level without one."""
    for level in levels:
        limit = limit_of(level)
        if limit is not None:
            return level, limit
    return (levels[0], None) if levels else None


def _cpu_limit(level: _Level) -> float | None:
    """Cores that the quota allows, or None where there is no quota."""
    text = level.limit.read_or_none()
    if text is None:
        return None
    if level.version == 1:
        quota, period = _number(text), level.number("cpu.cfs_period_us")
    else:
        quota_text, _, period_text = text.partition(" ")
        quota, period = _number(quota_text), _number(period_text)
    if quota is None or quota <= 0 or period is None or period <= 0:
        return None
    return quota / period


def _memory_limit(level: _Level) -> int | None:
    limit = _number(level.limit.read_or_none())
    return limit if limit is not None and limit < UNLIMITED_BYTES else None


def _read_cpu(now_ns: int, level: _Level, limit: float | None) -> CgroupCpuSample | None:
    stat = _table(level.text("cpu.stat"))
    if level.version == 1:
        throttled_ns = stat.get("throttled_time")
        usage_ns = _number(level.usage.read_or_none()) if level.usage else None
    else:
        throttled_ns = _nanoseconds(stat.get("throttled_usec"))
        usage_ns = _nanoseconds(stat.get("usage_usec"))
    if not stat and usage_ns is None and limit is None:
        return None
    return CgroupCpuSample(
        now_ns,
        0,
        version=level.version,
        inode=level.inode,
        periods=stat.get("nr_periods"),
        throttled_periods=stat.get("nr_throttled"),
        throttled_ns=throttled_ns,
        usage_ns=usage_ns,
        limit_cores=limit,
    )


def _read_memory(now_ns: int, level: _Level, limit: float | None) -> CgroupMemorySample | None:
    stat = _table(level.text("memory.stat"))
    own = CgroupMemorySample(now_ns, 0, inode=level.inode, limit_bytes=limit)
    if level.version == 1:
        sample = replace(
            own,
            usage_bytes=level.number("memory.usage_in_bytes"),
            oom_kills=_table(level.text("memory.oom_control")).get("oom_kill"),
            anonymous_bytes=stat.get("total_rss"),
            file_bytes=stat.get("total_cache"),
            swap_bytes=stat.get("total_swap"),
            peak_bytes=level.number("memory.max_usage_in_bytes"),
            limit_hits=level.number("memory.failcnt"),
        )
        inactive = stat.get("total_inactive_file")
    else:
        events = _table(level.text("memory.events"))
        sample = replace(
            own,
            usage_bytes=level.number("memory.current"),
            oom_kills=events.get("oom_kill"),
            anonymous_bytes=stat.get("anon"),
            file_bytes=stat.get("file"),
            swap_bytes=level.number("memory.swap.current"),
            peak_bytes=level.number("memory.peak"),
            limit_hits=events.get("max"),
            high_events=events.get("high"),
        )
        inactive = stat.get("inactive_file")
    usage = sample.usage_bytes
    if usage is None and limit is None and sample.oom_kills is None:
        return None
    if usage is None or inactive is None:
        return sample
    return replace(sample, working_set_bytes=max(0, usage - inactive))


def _table(text: str | None) -> dict[str, int]:
    """A file of `name number` lines; what is no number is left out."""
    table: dict[str, int] = {}
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        number = _number(value)
        if number is not None:
            table[name] = number
    return table


def _number(text: str | None) -> int | None:
    """A whole number; None for "max" and for anything else."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _nanoseconds(microseconds: int | None) -> int | None:
    return None if microseconds is None else microseconds * MICROSECOND_NS
