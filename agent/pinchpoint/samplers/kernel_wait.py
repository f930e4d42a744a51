"""What the kernel says a thread of this process is doing: /proc/self/task/TID/syscall.

Nothing here can block: descriptors are named by readlink, never by stat, which asks the server of
a network file system.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from enum import Enum, auto
from pathlib import Path

from pinchpoint.samplers.mounts import parse_mounts
from pinchpoint.samplers.source import PROC


class KernelWait(Enum):
    """What a thread is in the kernel for."""

    RUNNING = auto()
    SOCKET = auto()
    """Waits for a peer: a socket, a pipe, readiness of descriptors."""
    SLEEP = auto()
    DISK = auto()
    FUTEX = auto()
    """Waits without a time limit on a semaphore or condition of user space."""
    FUTEX_UNSURE = auto()
    """The same with a limit, or on a plain mutex: so do threads wait for the interpreter lock."""
    OTHER = auto()
    GONE = auto()
    UNREADABLE = auto()


class _Call(Enum):
    READ_WRITE = auto()
    PEER = auto()
    POLL = auto()
    """poll(2) and ppoll(2): the number of descriptors is the second argument."""
    SELECT = auto()
    """select(2) and pselect(2): the highest descriptor + 1 is the first argument."""
    SLEEP = auto()
    FILE = auto()
    FUTEX = auto()


# arch/x86/entry/syscalls/syscall_64.tbl
_X86_64 = {
    _Call.READ_WRITE: (0, 1, 17, 18, 19, 20, 295, 296, 327, 328),
    # connect accept sendto recvfrom sendmsg recvmsg epoll_wait epoll_pwait accept4 recvmmsg
    # sendmmsg epoll_pwait2
    _Call.PEER: (42, 43, 44, 45, 46, 47, 232, 281, 288, 299, 307, 441),
    _Call.POLL: (7, 271),
    _Call.SELECT: (23, 270),
    _Call.SLEEP: (35, 230),
    # open stat lstat fsync fdatasync truncate ftruncate rename unlink msync getdents64 openat
    # newfstatat unlinkat sync_file_range renameat2 fallocate syncfs sync statx openat2 readahead
    _Call.FILE: (
        2, 4, 6, 74, 75, 76, 77, 82, 87, 26, 217, 257,
        262, 263, 277, 316, 285, 306, 162, 332, 437, 187,
    ),
    _Call.FUTEX: (202, 449),
}  # fmt: skip

# include/uapi/asm-generic/unistd.h
_AARCH64 = {
    _Call.READ_WRITE: (63, 64, 65, 66, 67, 68, 69, 70, 286, 287),
    _Call.PEER: (203, 202, 206, 207, 211, 212, 22, 242, 243, 269, 441),
    _Call.POLL: (73,),
    _Call.SELECT: (72,),
    _Call.SLEEP: (101, 115),
    # openat newfstatat fsync fdatasync truncate ftruncate unlinkat renameat msync getdents64
    # sync_file_range renameat2 fallocate syncfs sync statx openat2 readahead
    _Call.FILE: (
        56, 79, 82, 83, 45, 46, 35, 38, 227, 61, 84, 276, 47, 267, 81, 291, 437, 213,
    ),
    _Call.FUTEX: (98, 449),
}  # fmt: skip

_TABLES = {"x86_64": _X86_64, "aarch64": _AARCH64}

_FILE_SYSTEM_SERVERS = ("fuse", "nfs", "9p", "ceph", "cifs", "smb", "virtiofs", "lustre", "gpfs")
"""File systems on which reading a file may sleep as if on a pipe (state S, not D)."""

DESCRIPTORS_MAX = min(256, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 16)
"""Request threads whose files are kept open; beyond, all are closed and opened anew."""

_FUTEX_OPERATION, _FUTEX_TIMEOUT = 1, 3
_FUTEX_COMMAND_MASK = 0x7F
_FUTEX_WAIT = 0
"""linux/futex.h. glibc's mutexes use it, its semaphores and conditions FUTEX_WAIT_BITSET. musl uses
it for all of them, so that there only an explicit `acquire` is told from the interpreter lock."""

_READ_BYTES = 512


class KernelView:
    """Looks at threads of this process. Not for use after a fork.

    Descriptors are opened ahead of the look: between a look at a thread's frame and the one read
    here, the interpreter lock is then released only for the read itself.

    Args:
        proc: where /proc is.
        machine: the processor architecture, as uname(2) says it.
    """

    def __init__(self, proc: Path = PROC, machine: str | None = None) -> None:
        self._own = str(proc / "self")
        table = _TABLES.get(machine or os.uname().machine, {})
        self._calls = {number: call for call, numbers in table.items() for number in numbers}
        self._fds: dict[int, int] = {}

    def prepare(self, native_ids: Iterable[int]) -> None:
        """Open what `look` reads for these threads; a few us for each new one."""
        for native_id in native_ids:
            if native_id not in self._fds:
                if len(self._fds) >= DESCRIPTORS_MAX:
                    self.close()
                self._open(native_id)

    def look(self, native_id: int) -> KernelWait:
        """What the thread, which was prepared, is doing now; 3 us, or 20 if it reads a file."""
        fd = self._fds.get(native_id)
        if fd is None:
            return self._missing(native_id)
        try:
            fields = os.pread(fd, _READ_BYTES, 0).decode("ascii", "replace").split()
        except ProcessLookupError:
            os.close(self._fds.pop(native_id))
            return KernelWait.GONE
        except OSError:
            return KernelWait.UNREADABLE
        if fields[:1] == ["running"]:
            return KernelWait.RUNNING
        if not self._calls or not fields:
            return KernelWait.UNREADABLE
        try:
            arguments = [int(field, 16) for field in fields[1:]]
            return self._blocked(native_id, int(fields[0]), arguments)
        except (IndexError, ValueError):
            return KernelWait.UNREADABLE

    def close(self) -> None:
        """Release the descriptors; `prepare` opens them again."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _open(self, native_id: int) -> None:
        path = f"{self._own}/task/{native_id}/syscall"
        try:
            self._fds[native_id] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            pass

    def _missing(self, native_id: int) -> KernelWait:
        known = os.path.exists(f"{self._own}/task/{native_id}")
        return KernelWait.UNREADABLE if known else KernelWait.GONE

    def _blocked(self, native_id: int, number: int, arguments: list[int]) -> KernelWait:
        call = self._calls.get(number)
        if call is _Call.FUTEX:
            return _futex(arguments)
        if call is _Call.SLEEP:
            return KernelWait.SLEEP
        if call is _Call.PEER:
            return KernelWait.SOCKET
        if call is _Call.SELECT:
            return KernelWait.SOCKET if arguments[0] else KernelWait.SLEEP
        if call is _Call.POLL:
            return KernelWait.SOCKET if arguments[1] else KernelWait.SLEEP
        if call is _Call.FILE or self._uninterruptible(native_id):
            # Uninterruptible outside a system call (number -1) is a page fault that reads a file.
            return KernelWait.DISK
        return self._descriptor(arguments[0]) if call is _Call.READ_WRITE else KernelWait.OTHER

    def _uninterruptible(self, native_id: int) -> bool:
        try:
            text = self._read(f"/task/{native_id}/stat")
        except OSError:
            return False
        return text[text.rfind(")") + 2 :][:1] == "D"

    def _descriptor(self, fd: int) -> KernelWait:
        """What a read or write that sleeps interruptibly waits for."""
        try:
            target = os.readlink(f"{self._own}/fd/{fd}")
        except OSError:
            return KernelWait.OTHER
        if target.startswith("/") and self._on_file_server(fd):
            return KernelWait.DISK
        # Local files are read uninterruptibly: a path that is not is a FIFO or a terminal.
        return KernelWait.SOCKET

    def _on_file_server(self, fd: int) -> bool:
        try:
            description = self._read(f"/fdinfo/{fd}")
            with open(f"{self._own}/mountinfo", encoding="utf-8", errors="replace") as file:
                mounts = file.read()
        except OSError:
            return False
        _, _, after = description.partition("mnt_id:")
        mount_id = int(after.split()[0]) if after.split() else -1
        return any(
            mount.mount_id == mount_id and mount.kind.startswith(_FILE_SYSTEM_SERVERS)
            for mount in parse_mounts(mounts)
        )

    def _read(self, path: str) -> str:
        fd = os.open(self._own + path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _READ_BYTES).decode("utf-8", "replace")
        finally:
            os.close(fd)


def _futex(arguments: list[int]) -> KernelWait:
    plain = arguments[_FUTEX_OPERATION] & _FUTEX_COMMAND_MASK == _FUTEX_WAIT
    unsure = plain or arguments[_FUTEX_TIMEOUT] != 0
    return KernelWait.FUTEX_UNSURE if unsure else KernelWait.FUTEX
