"""Runs on a machine of its own (scripts/cgroup-guest), as root: makes control groups, works in
them, and prints what our samplers and the kernel's own files say at the same moment.

Two views, as a process has them: in a container with a cgroup namespace, whose own group has the
limits, and in a group without any, whose parent has them.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from io import FileIO
from pathlib import Path

from pinchpoint.samplers.cgroup import CgroupSampler
from pinchpoint.samplers.pressure import PressureSampler

ROOT = Path("/sys/fs/cgroup")
PRESSURE = Path("/proc/pressure")
DISK = "/dev/nvme0n1"

MIB = 1 << 20
LIMIT_BYTES = 64 * MIB
KEPT_BYTES = 16 * MIB
READ_BYTES = 96 * MIB
TIGHT_CPU_MAX, WIDE_CPU_MAX = "50000 100000", "150000 100000"
"""Quota and period in microseconds. Under the wide one, which a machine of one CPU cannot use up,
the figures are read: under the tight one they would hardly stand still for long enough."""

THROTTLED_PERIODS = 5
WORK_SECONDS = 60
ATTEMPTS = 200
"""At a moment that lies between two changes of the kernel's figures."""

SCOPES = ("", "system", "container")
"""The pressure samples' names by id."""

CLONE_NEWNS, CLONE_NEWCGROUP = 0x00020000, 0x02000000

MEMORY_STAT = ("anon", "file", "inactive_file")
MOVING = ("cpu.stat usage_usec", "cpu.stat user_usec", "cpu.stat system_usec")
"""What reading itself changes."""

Figures = dict[str, int]
View = dict[str, object]


def main() -> None:
    """Both views, one after the other: each has the CPU for itself."""
    container, parent = ROOT / "container", ROOT / "parent"
    child = parent / "child"
    let_divide(ROOT)
    for group in (container, parent):
        group.mkdir()
        limit(group)
    let_divide(parent)
    child.mkdir()
    views = {
        "container": in_child(lambda: namespaced(container)),
        "child": in_child(lambda: below(child, parent)),
    }
    print(json.dumps(views))


def let_divide(group: Path) -> None:
    """Give the group's children controllers."""
    (group / "cgroup.subtree_control").write_text("+cpu +memory +io")


def limit(group: Path) -> None:
    """Half a CPU and 64 MiB."""
    (group / "cpu.max").write_text(TIGHT_CPU_MAX)
    (group / "memory.max").write_text(str(LIMIT_BYTES))


def namespaced(group: Path) -> View:
    """In the group, which then looks like the root of everything."""
    overstep(group)
    join(group)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS | CLONE_NEWCGROUP):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["umount", ROOT], check=True)
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", ROOT], check=True)
    return view(ROOT, ROOT)


def below(group: Path, limited: Path) -> View:
    """In the group, which is below the limited one, and in no namespace."""
    overstep(group)
    join(group)
    return view(group, limited)


def overstep(group: Path) -> None:
    """A process of the group wants twice its memory."""
    victim = os.fork()
    if victim == 0:
        join(group)
        bytearray(2 * LIMIT_BYTES)
        os._exit(0)
    _, status = os.waitpid(victim, 0)
    assert os.WIFSIGNALED(status), status
    assert os.WTERMSIG(status) == signal.SIGKILL, status


def join(group: Path) -> None:
    """Move this process there."""
    (group / "cgroup.procs").write_text(str(os.getpid()))


def view(own: Path, limited: Path) -> View:
    """Work, then read everything at one moment."""
    kept = bytearray(KEPT_BYTES)
    with open(DISK, "rb", buffering=0) as disk:
        read_twice(disk)
        burn(limited)
        (limited / "cpu.max").write_text(WIDE_CPU_MAX)
        found = steady(own, limited)
    assert len(kept) == KEPT_BYTES
    return found


def steady(own: Path, limited: Path) -> View:
    """Samples, and the kernel's figures that were the same before and after them."""
    cgroup, pressure = CgroupSampler(), PressureSampler(lambda _, scope: SCOPES.index(scope))
    for _ in range(ATTEMPTS):
        before = figures(own, limited)
        samples = [*cgroup.sample(1), *pressure.sample(1)]
        after = figures(own, limited)
        usage_usec = [before["cpu.stat usage_usec"], after["cpu.stat usage_usec"]]
        for name in MOVING:
            del before[name], after[name]
        if before == after:
            break
    assert before == after
    return {
        "membership": Path("/proc/self/cgroup").read_text(),
        "inode": limited.stat().st_ino,
        "kernel": after,
        "usage_usec": usage_usec,
        "samples": [[type(sample).__name__, asdict(sample)] for sample in samples],
    }


def read_twice(disk: FileIO) -> None:
    """More than the memory limit: pages are given up, missed and read again. They are the
    group's for as long as the disk is open."""
    for _ in range(2):
        disk.seek(0)
        for _ in range(READ_BYTES // MIB):
            disk.read(MIB)


def burn(group: Path) -> None:
    """Use more CPU than the quota allows."""
    deadline = time.monotonic() + WORK_SECONDS
    while table(group / "cpu.stat")["nr_throttled"] < THROTTLED_PERIODS:
        assert time.monotonic() < deadline, "never throttled"
        sum(range(100_000))


def figures(own: Path, limited: Path) -> Figures:
    """What the kernel's files say: `file field` to number."""
    found = {
        f"{file} {field}": number
        for file in ("cpu.stat", "memory.events", "memory.stat")
        for field, number in table(limited / file).items()
        if file != "memory.stat" or field in MEMORY_STAT
    }
    for file in ("memory.current", "memory.max", "memory.peak", "memory.swap.current"):
        found[file] = int((limited / file).read_text())
    for resource in ("cpu", "memory", "io"):
        found |= totals(f"system {resource}", PRESSURE / resource)
        found |= totals(f"container {resource}", own / f"{resource}.pressure")
    return found


def table(file: Path) -> Figures:
    """A file of `name number` lines."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {name: int(number) for name, number in lines}


def totals(name: str, file: Path) -> Figures:
    """A file of pressure: its totals in microseconds."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {f"{name} {kind}": int(total.removeprefix("total=")) for kind, *_, total in lines}


def in_child(work: Callable[[], View]) -> View:
    """What `work` returns in a process of its own."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        with open(send, "w") as file:
            json.dump(work(), file)
        os._exit(0)
    os.close(send)
    with open(receive) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    found: View = json.loads(text)
    return found


if __name__ == "__main__":
    main()
