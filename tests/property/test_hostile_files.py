"""Whatever is in the files of /proc and of the control groups, and whatever of them is missing:
every other sampler still runs, errors are counted, and no value is one that cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinchpoint.samplers.cgroup import CgroupSampler
from pinchpoint.samplers.kernel_wait import KernelView, KernelWait
from pinchpoint.samplers.pressure import PressureSampler
from pinchpoint.samplers.process import ProcessSampler
from pinchpoint.samplers.runner import Runner
from pinchpoint.samplers.threads import ThreadsSampler
from pinchpoint.schema.samples import (
    CgroupCpuSample,
    CgroupMemorySample,
    PressureSample,
    ProcessSample,
    Sample,
    SamplerSample,
    SignalSample,
    ThreadsSample,
)
from pinchpoint.schema.wire import (
    SAMPLE_VALUE_MAX,
    name_text,
    pack_sample,
    sample_fields,
    unpack_detail,
)
from tests.support.hostile_tree import TID, TREES, Damage, damages, histories, planted, put
from tests.unit.samplers.support import Names

RUNS_PER_STEP = 2
"""Three steps are more runs than errors in a row switch a sampler off."""


class Last:
    """Comes after all others and always has something to say."""

    name = "last"

    def sample(self, now_ns: int) -> Sequence[Sample]:
        return (SignalSample(now_ns, 0, available=1),)


class Rig:
    """All samplers that read files, on a tree, with what they say checked as it comes."""

    def __init__(self, root: Path) -> None:
        proc = root / "proc"
        self.names = Names()
        self.readings: list[Sample] = []
        self.errors: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()
        self.off: dict[str, str] = {}
        ticks = count()
        self._runner = Runner(
            (
                ProcessSampler(proc),
                ThreadsSampler(self.names, tuple, tuple, proc),
                CgroupSampler(proc),
                PressureSampler(self.names, proc),
                Last(),
            ),
            self._take,
            self.names,
            lambda: next(ticks),
        )
        self._times = count(step=1_000_000_000)

    def run(self) -> None:
        self._runner.run_once(next(self._times))

    def close(self) -> None:
        self._runner.close()

    def _take(self, sample: Sample) -> None:
        assert isinstance(unpack_detail(pack_sample(1, sample)), type(sample))
        for name in sample_fields(type(sample)):
            value = getattr(sample, name)
            assert value is None or 0 <= value <= SAMPLE_VALUE_MAX, (name, sample)
        if isinstance(sample, SamplerSample):
            name = self.names.text(sample.instance)
            assert sample.errors is not None
            assert sample.errors >= self.errors[name]
            self.errors[name] = int(sample.errors)
            self.runs[name] += 1
        elif isinstance(sample, SignalSample) and not sample.available:
            reason = self.names.text(sample.reason_id)
            assert name_text(reason)
            self.off[self.names.text(sample.instance)] = reason
        else:
            self.readings.append(sample)

    def read(self) -> set[type[Sample]]:
        """What kinds of samples came since the last call."""
        kinds = {type(sample) for sample in self.readings}
        self.readings.clear()
        return kinds


@pytest.mark.parametrize("tree", TREES)
def test_a_sound_tree_is_read_whole(tree: str) -> None:
    with planted(TREES[tree]) as root:
        rig = Rig(root)
        rig.run()
        rig.close()
    assert rig.read() >= {
        ProcessSample, ThreadsSample, CgroupCpuSample, CgroupMemorySample, PressureSample,
    }  # fmt: skip
    assert sum(rig.errors.values()) == 0
    assert rig.off == {}


@given(histories())
@settings(max_examples=200)
def test_damage_is_an_error_or_an_absence_of_its_own_sampler(
    history: tuple[str, list[list[Damage]]],
) -> None:
    tree, steps = history
    with planted(TREES[tree]) as root:
        rig = Rig(root)
        for damaged in steps:
            for path, content in damaged:
                put(root, path, content)
            for _ in range(RUNS_PER_STEP):
                rig.run()
        rig.close()
    runs = len(steps) * RUNS_PER_STEP
    assert rig.runs["last"] == runs
    assert rig.errors["last"] == 0
    for name in ("process", "threads", "cgroup", "pressure"):
        assert rig.runs[name] == runs or rig.off[name]


@given(st.data())
@settings(max_examples=200)
def test_a_thread_whose_files_are_damaged_is_unreadable(data: st.DataObject) -> None:
    tree = {p: t for p, t in TREES["v2"].items() if "task" in p or "mount" in p or "fdinfo" in p}
    with planted(tree) as root:
        view = KernelView(root / "proc", "x86_64")
        for path, content in data.draw(st.lists(damages(tree), max_size=4)):
            put(root, path, content)
        view.prepare([TID])
        assert isinstance(view.look(TID), KernelWait)
        view.close()
