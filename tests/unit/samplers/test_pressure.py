from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pinchpoint.samplers.pressure import REASONS, PressureSampler, _raise
from pinchpoint.samplers.source import SourceUnavailable
from pinchpoint.schema.samples import PressureSample
from pinchpoint.schema.wire import name_text
from tests.unit.samplers.support import Names, write

BOTH = (
    "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"
)


def system(tree: Path) -> None:
    write(
        tree,
        {
            "proc/pressure/cpu": BOTH.format(11, 0),
            "proc/pressure/memory": BOTH.format(12, 13),
            "proc/pressure/io": BOTH.format(14, 15),
        },
    )


def group(tree: Path, *, root: bool) -> None:
    write(
        tree,
        {
            "proc/self/cgroup": "1:cpu:/elsewhere\n0::/app\n",
            "proc/self/mountinfo": f"4 3 0:41 / {tree}/unified rw - cgroup2 cgroup2 rw\n",
            "unified/app/cpu.pressure": BOTH.format(21, 22),
            "unified/app/memory.pressure": BOTH.format(23, 24),
            "unified/app/io.pressure": BOTH.format(25, 26),
        },
    )
    if not root:
        write(tree, {"unified/app/cgroup.events": "populated 1\n"})


def read(tree: Path) -> dict[str, PressureSample]:
    names = Names()
    samples = PressureSampler(names, tree / "proc").sample(1)
    assert all(isinstance(sample, PressureSample) for sample in samples)
    return {names.text(s.instance): s for s in samples if isinstance(s, PressureSample)}


def test_totals_become_nanoseconds(tmp_path: Path) -> None:
    system(tmp_path)
    reading = read(tmp_path)["system"]
    assert (reading.cpu_some_ns, reading.memory_full_ns, reading.io_full_ns) == (
        11_000,
        13_000,
        15_000,
    )


def test_the_systems_full_cpu_pressure_is_undefined_and_absent(tmp_path: Path) -> None:
    system(tmp_path)
    assert read(tmp_path)["system"].cpu_full_ns is None


def test_the_containers_group_is_read_also_on_a_hybrid_machine(tmp_path: Path) -> None:
    system(tmp_path)
    group(tmp_path, root=False)
    reading = read(tmp_path)
    assert list(reading) == ["system", "container"]
    assert (reading["container"].cpu_some_ns, reading["container"].cpu_full_ns) == (21_000, 22_000)


def test_the_root_group_is_no_container(tmp_path: Path) -> None:
    system(tmp_path)
    group(tmp_path, root=True)
    assert list(read(tmp_path)) == ["system"]


def test_the_container_alone_is_enough(tmp_path: Path) -> None:
    group(tmp_path, root=False)
    assert list(read(tmp_path)) == ["container"]


def test_a_moved_process_is_read_at_its_new_group(tmp_path: Path) -> None:
    group(tmp_path, root=False)
    names = Names()
    sampler = PressureSampler(names, tmp_path / "proc")
    sampler.sample(1)
    write(
        tmp_path,
        {
            "unified/new/cgroup.events": "",
            "unified/new/cpu.pressure": BOTH.format(31, 32),
            "proc/self/cgroup": "0::/new\n",
        },
    )
    (reading,) = sampler.sample(2)
    assert isinstance(reading, PressureSample)
    assert reading.cpu_full_ns == 32_000
    assert reading.io_some_ns is None


def test_a_kernel_before_full_cpu_pressure_leaves_it_absent(tmp_path: Path) -> None:
    group(tmp_path, root=False)
    write(tmp_path, {"unified/app/cpu.pressure": "some avg10=0.00 total=5\n"})
    reading = read(tmp_path)["container"]
    assert (reading.cpu_some_ns, reading.cpu_full_ns) == (5_000, None)


def test_a_kernel_without_pressure_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="CONFIG_PSI"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOENT, "CONFIG_PSI"),
        (errno.EOPNOTSUPP, "psi=1"),
        (errno.EACCES, "not permitted"),
        (errno.EPERM, "security filter"),
    ],
)
def test_each_refusal_has_its_own_sentence(number: int, words: str) -> None:
    with pytest.raises(SourceUnavailable, match=words):
        _raise(OSError(number, "refused"))


def test_another_error_is_no_reason_to_give_up() -> None:
    with pytest.raises(OSError, match="later"):
        _raise(OSError(errno.EIO, "later"))


def test_every_reason_fits_into_a_name() -> None:
    assert len(set(REASONS.values())) == len(REASONS)
    for reason in REASONS.values():
        assert name_text(reason).decode() == reason
