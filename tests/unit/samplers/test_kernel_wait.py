from __future__ import annotations

from pathlib import Path

import pytest

from pinchpoint.samplers.kernel_wait import KernelView, KernelWait
from tests.unit.samplers.support import write

TID = 4242
NO_MORE = "0x0 0x0 0x0 0x7ffe 0x7f12"


def look(tree: Path, syscall: str, machine: str = "x86_64", state: str = "S") -> KernelWait:
    write(
        tree,
        {
            f"self/task/{TID}/syscall": syscall + "\n",
            f"self/task/{TID}/stat": f"{TID} (a b) c) {state} 1 2\n",
        },
    )
    view = KernelView(tree, machine)
    view.prepare([TID])
    found = view.look(TID)
    view.close()
    return found


@pytest.mark.parametrize(
    ("machine", "syscall", "expected"),
    [
        ("x86_64", "running", KernelWait.RUNNING),
        ("x86_64", f"230 0x1 0x1 0x7f52 {NO_MORE}", KernelWait.SLEEP),
        ("aarch64", f"115 0x1 0x1 0x7f52 {NO_MORE}", KernelWait.SLEEP),
        ("x86_64", f"45 0x5 0x7f52 0x1 {NO_MORE}", KernelWait.SOCKET),
        ("aarch64", f"207 0x5 0x7f52 0x1 {NO_MORE}", KernelWait.SOCKET),
        ("x86_64", f"232 0x8 0x55 0x1 {NO_MORE}", KernelWait.SOCKET),
        ("x86_64", f"7 0x7f52 0x1 0x7530 {NO_MORE}", KernelWait.SOCKET),
        ("x86_64", f"7 0x7f52 0x0 0x7530 {NO_MORE}", KernelWait.SLEEP),
        ("x86_64", f"270 0x6 0x7f52 0x0 {NO_MORE}", KernelWait.SOCKET),
        ("x86_64", f"270 0x0 0x0 0x0 {NO_MORE}", KernelWait.SLEEP),
        ("x86_64", f"257 0xffffff9c 0x7f52 0x80000 {NO_MORE}", KernelWait.DISK),
        ("x86_64", f"74 0x3 0x0 0x0 {NO_MORE}", KernelWait.DISK),
        ("aarch64", f"82 0x3 0x0 0x0 {NO_MORE}", KernelWait.DISK),
        ("x86_64", f"202 0x55dd 0x189 0x0 {NO_MORE}", KernelWait.FUTEX),
        ("x86_64", "202 0x55dd 0x89 0x0 0x7f52 0x0 0xffffffff 0x0 0x0", KernelWait.FUTEX_UNSURE),
        ("x86_64", f"202 0x55dd 0x80 0x2 {NO_MORE}", KernelWait.FUTEX_UNSURE),
        ("x86_64", f"61 0x3 0x0 0x0 {NO_MORE}", KernelWait.OTHER),
        ("riscv64", f"230 0x1 0x1 0x7f52 {NO_MORE}", KernelWait.UNREADABLE),
        ("riscv64", "running", KernelWait.RUNNING),
    ],
)
def test_a_system_call_means(
    tmp_path: Path, machine: str, syscall: str, expected: KernelWait
) -> None:
    assert look(tmp_path, syscall, machine) is expected


def test_a_page_fault_that_cannot_be_interrupted_reads_a_file(tmp_path: Path) -> None:
    assert look(tmp_path, "-1 0x7ffe 0x7f12", state="D") is KernelWait.DISK


def test_a_thread_outside_a_system_call_that_can_be_interrupted_is_not(tmp_path: Path) -> None:
    assert look(tmp_path, "-1 0x7ffe 0x7f12", state="S") is KernelWait.OTHER


def read_from(tree: Path, target: str, kind: str, state: str) -> KernelWait:
    write(
        tree,
        {
            "self/fdinfo/5": "pos:\t0\nflags:\t02\nmnt_id:\t77\nino:\t5\n",
            "self/mountinfo": f"77 1 0:9 / /data rw - {kind} source rw\n",
            "self/fd/": "",
        },
    )
    (tree / "self/fd/5").symlink_to(target)
    return look(tree, f"0 0x5 0x7f52 0x1 {NO_MORE}", state=state)


@pytest.mark.parametrize(
    ("target", "kind", "state", "expected"),
    [
        ("socket:[881]", "sockfs", "S", KernelWait.SOCKET),
        ("pipe:[881]", "pipefs", "S", KernelWait.SOCKET),
        ("/data/fifo", "ext4", "S", KernelWait.SOCKET),
        ("/data/weights.bin", "ext4", "D", KernelWait.DISK),
        ("/data/weights.bin", "fuse.s3fs", "S", KernelWait.DISK),
        ("/data/weights.bin", "nfs4", "S", KernelWait.DISK),
    ],
)
def test_a_read_is_told_by_what_it_reads(
    tmp_path: Path, target: str, kind: str, state: str, expected: KernelWait
) -> None:
    assert read_from(tmp_path, target, kind, state) is expected


def test_a_thread_that_is_gone_is_told_from_a_file_that_is_missing(tmp_path: Path) -> None:
    write(tmp_path, {f"self/task/{TID}/": ""})
    view = KernelView(tmp_path, "x86_64")
    view.prepare([TID])
    assert view.look(TID) is KernelWait.UNREADABLE
    assert view.look(TID + 1) is KernelWait.GONE
