"""What samplers read, as a tree of files under a directory, and what may become of the files."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

TID = 4242
ROOT = "TREE"
"""Stands for the tree's path in its files."""

PSI = "some avg10=0.00 avg60=0.00 avg300=0.00 total={0}1\nfull avg10=0.00 total={0}\n"
PROC = {
    "proc/self/stat": "7 (my (odd) srv) S 1 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 37 0 250 1000 10\n",
    "proc/self/statm": "100 25 3 1 0 9 0\n",
    "proc/self/io": "rchar: 9\nwchar: 9\nread_bytes: 4096\nwrite_bytes: 512\n",
    "proc/self/fd/0": "",
    f"proc/self/task/{TID}/schedstat": "1000 2000 3\n",
    f"proc/self/task/{TID}/stat": f"{TID} (a) D 1 2\n",
    f"proc/self/task/{TID}/syscall": "0 0x3 0x7f52 0x1 0x0 0x0 0x0 0x7ffe 0x7f12\n",
    "proc/self/fdinfo/3": "pos:\t0\nflags:\t02\nmnt_id:\t31\n",
    "proc/pressure/cpu": PSI.format(4),
    "proc/pressure/memory": PSI.format(5),
    "proc/pressure/io": PSI.format(6),
}
V2 = {
    "proc/self/cgroup": "0::/pod/app\n",
    "proc/self/mountinfo": f"31 23 0:28 / {ROOT}/fs rw - cgroup2 cgroup2 rw\n",
    "fs/pod/cpu.max": "max 100000\n",
    "fs/pod/memory.max": "max\n",
    "fs/pod/app/cgroup.events": "populated 1\nfrozen 0\n",
    "fs/pod/app/cpu.max": "150000 100000\n",
    "fs/pod/app/cpu.stat": "usage_usec 900\nnr_periods 10\nnr_throttled 4\nthrottled_usec 250\n",
    "fs/pod/app/memory.current": "5000\n",
    "fs/pod/app/memory.max": "8000\n",
    "fs/pod/app/memory.peak": "7000\n",
    "fs/pod/app/memory.swap.current": "100\n",
    "fs/pod/app/memory.stat": "anon 1\nfile 2000\ninactive_file 1200\n",
    "fs/pod/app/memory.events": "low 0\nhigh 1\nmax 3\noom 3\noom_kill 2\n",
    "fs/pod/app/cpu.pressure": PSI.format(7),
    "fs/pod/app/memory.pressure": PSI.format(8),
    "fs/pod/app/io.pressure": PSI.format(9),
}
V1 = {
    "proc/self/cgroup": "4:memory:/m\n1:cpu,cpuacct:/c\n0::/u\n",
    "proc/self/mountinfo": f"31 23 0:28 / {ROOT}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    f"32 23 0:29 / {ROOT}/memory rw - cgroup cgroup rw,memory\n"
    f"33 23 0:30 / {ROOT}/unified rw - cgroup2 cgroup2 rw\n",
    "cpu/c/cpu.cfs_quota_us": "40000\n",
    "cpu/c/cpu.cfs_period_us": "100000\n",
    "cpu/c/cpu.stat": "nr_periods 7\nnr_throttled 3\nthrottled_time 123456\n",
    "cpu/c/cpuacct.usage": "777\n",
    "memory/m/memory.usage_in_bytes": "5000\n",
    "memory/m/memory.max_usage_in_bytes": "7000\n",
    "memory/m/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/m/memory.failcnt": "3\n",
    "memory/m/memory.stat": "inactive_file 1\ntotal_inactive_file 4000\ntotal_rss 5\n",
    "memory/m/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "unified/u/cgroup.events": "populated 1\n",
    "unified/u/cpu.pressure": PSI.format(7),
}
TREES = {"v2": PROC | V2, "v1": PROC | V1}

NUMBERS = st.sampled_from(
    (
        "", "0", "-1", str(-(2**63)), str(2**64), "9" * 400, "9" * 5000, "1_000", "1.5", "1e9",
        "nan", "-inf", "0x10", "max", "\u0663", "\0",
    )
)  # fmt: skip
LONG = b"nr_periods 1\n" * 10_000


@dataclass(frozen=True)
class Missing:
    """No such file."""


@dataclass(frozen=True)
class Folder:
    """A directory in its place: opened, but not read (EISDIR)."""


@dataclass(frozen=True)
class Loop:
    """A link to itself: cannot be opened, whoever asks (ELOOP)."""


Content = bytes | Missing | Folder | Loop
Damage = tuple[str, Content]
"""A file and what becomes of it."""


@st.composite
def damages(draw: st.DrawFn, tree: Mapping[str, str]) -> Damage:
    """One file, of other content or none."""
    path = draw(st.sampled_from(sorted(tree)))
    good = tree[path]
    number = draw(NUMBERS)
    numbers = [match.span() for match in re.finditer(r"\d+", good)] or [(0, 0)]
    begin, end = draw(st.sampled_from(numbers))
    ways: tuple[st.SearchStrategy[Content], ...] = (
        st.sampled_from((Missing(), Folder(), Loop(), b"", LONG)),
        st.binary(max_size=60),
        st.integers(0, len(good)).map(lambda cut: good[:cut].encode()),
        st.just((good[:begin] + number + good[end:]).encode()),
    )
    return path, draw(st.one_of(ways))


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, list[list[Damage]]]:
    """A tree and what happens to it before it is read, and while it is."""
    tree = draw(st.sampled_from(sorted(TREES)))
    damaged = st.lists(damages(TREES[tree]), min_size=1, max_size=6)
    return tree, draw(st.lists(damaged, min_size=1, max_size=3))


@contextmanager
def planted(tree: Mapping[str, str]) -> Iterator[Path]:
    """The tree on disk."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for path, text in tree.items():
            put(root, path, text.encode())
        yield root


def put(root: Path, name: str, content: Content) -> None:
    """Make a file what it is to be."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (path.is_file() and isinstance(content, bytes)):
        # Otherwise it stays the one that a sampler has open.
        remove(path)
    if isinstance(content, bytes):
        path.write_bytes(content.replace(ROOT.encode(), os.fsencode(root)))
    elif isinstance(content, Folder):
        path.mkdir()
    elif isinstance(content, Loop):
        path.symlink_to(path)


def remove(path: Path) -> None:
    """A file or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
