"""The thread that reads GPUs: a call that never returns stops nothing but itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pinchpoint.probe.gpu_sampling import HUNG, HUNG_QUESTIONS, GpuSampling
from pinchpoint.samplers.nvml import NvmlSampler
from pinchpoint.samplers.nvml_driver import NO_DRIVER
from pinchpoint.samplers.runner import SIGNAL_PERIOD_NS
from pinchpoint.samplers.source import Intern, SourceUnavailable
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import (
    GpuSample,
    GpuXidSample,
    Sample,
    SamplerSample,
    SignalSample,
)
from tests.support.waiting import LIMIT_SECONDS, until
from tests.unit.samplers.support import Names

SECOND = 1_000_000_000


class Driver(NvmlSampler):
    """A sampler whose driver hangs, fails or answers, as it is told."""

    def __init__(self, intern: Intern) -> None:
        super().__init__(intern)
        self.gpu_id = intern(NameKind.DEVICE, "GPU-0")
        self.returns = threading.Event()
        self.returns.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None
        self.closed = threading.Event()

    def sample(self, now_ns: int) -> Sequence[Sample]:
        self.entered.set()
        self.returns.wait(LIMIT_SECONDS)
        if self.failure is not None:
            raise self.failure
        return (GpuSample(now_ns, self.gpu_id, power_watts=1.0), GpuXidSample(now_ns, 9, errors=1))

    def close(self) -> None:
        self.closed.set()


class Rig:
    """The sampling, asked once a second of a clock of its own."""

    def __init__(self, driver_file: Path) -> None:
        self.names = Names()
        self.driver = Driver(self.names)
        self.sampling = GpuSampling(self.names, lambda _: self.driver, (driver_file,))
        self.now_ns = 0

    def ask(self) -> Sequence[Sample]:
        """What one second brings, whether the driver has answered or not."""
        self.now_ns += SECOND
        return self.sampling.samples(self.now_ns)

    def answered(self) -> list[Sample]:
        """What comes until the driver has answered; some questions are not counted as seconds."""
        found: list[Sample] = []

        def ask() -> bool:
            found.extend(self.sampling.samples(self.now_ns))
            return any(isinstance(sample, SamplerSample) for sample in found)

        self.now_ns += SECOND
        assert until(ask)
        return found

    def reasons(self, samples: Sequence[Sample]) -> list[str]:
        signals = [sample for sample in samples if isinstance(sample, SignalSample)]
        assert all(self.names.text(signal.instance) == "nvml" for signal in signals)
        return ["" if s.available else self.names.text(s.reason_id) for s in signals]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    driver_file = tmp_path / "nvidiactl"
    driver_file.touch()
    made = Rig(driver_file)
    yield made
    made.driver.returns.set()
    made.sampling.stop()


def gpus(samples: Sequence[Sample]) -> list[float | None]:
    return [sample.power_watts for sample in samples if isinstance(sample, GpuSample)]


def hang(rig: Rig) -> list[Sample]:
    """Let the driver hang until it is noticed: what is said of it."""
    rig.driver.returns.clear()
    rig.driver.entered.clear()
    found: list[Sample] = []

    def ask() -> bool:
        found.extend(rig.ask())
        return rig.driver.entered.is_set()

    assert until(ask)
    for _ in range(HUNG_QUESTIONS):
        ask()
    return found


def test_without_a_driver_there_is_no_thread(tmp_path: Path) -> None:
    """And every ten seconds it is said why."""
    rig = Rig(tmp_path / "missing")
    said = [reason for _ in range(25) for reason in rig.reasons(rig.ask())]
    assert said == [NO_DRIVER] * 3
    assert rig.sampling.thread_ids() == []
    assert not rig.driver.entered.is_set()


def test_a_reading_comes_with_the_next_question(rig: Rig) -> None:
    """Nobody waits for it."""
    assert rig.ask() == []
    assert rig.sampling.thread_ids() != []
    samples = rig.answered()
    assert gpus(samples) == [1.0]
    assert rig.reasons(samples) == [""]
    assert rig.sampling.cpu_ns > 0


def test_a_call_that_hangs_is_said_and_its_readings_end(rig: Rig) -> None:
    """Instead of standing still."""
    rig.answered()
    samples = hang(rig)
    assert HUNG in rig.reasons(samples)
    assert gpus(samples)[-1] is None


def test_a_hang_is_one_error(rig: Rig) -> None:
    """However long it lasts."""
    rig.answered()
    hang(rig)
    rig.driver.returns.set()
    samples = rig.answered()
    costs = [sample for sample in samples if isinstance(sample, SamplerSample)]
    assert [cost.errors for cost in costs] == [1]


def test_a_call_that_returns_at_last_is_good_again(rig: Rig) -> None:
    """What was read before it hung is of the past; what has happened to the GPU is not."""
    rig.answered()
    hang(rig)
    rig.driver.returns.set()
    samples = rig.answered()
    assert rig.reasons(samples)[-1] == ""
    assert 1.0 not in gpus(samples)
    assert any(isinstance(sample, GpuXidSample) for sample in samples)
    assert gpus(rig.answered()) == [1.0]


def test_a_start_that_hangs_is_said_too(rig: Rig) -> None:
    """Before anything has ever been read."""
    samples = hang(rig)
    assert set(rig.reasons(samples)) == {HUNG}
    rig.driver.returns.set()
    assert rig.reasons(rig.answered())[-1] == ""


def test_an_unusable_driver_is_said_every_ten_seconds(rig: Rig) -> None:
    """By its own reason."""
    rig.driver.failure = SourceUnavailable("no module")
    said = []

    def ask() -> bool:
        said.extend(rig.reasons(rig.ask()))
        return len(said) == 2

    assert until(ask)
    assert said == ["no module"] * 2
    assert rig.now_ns >= SIGNAL_PERIOD_NS


def test_an_error_of_our_own_is_raised_to_the_guard(tmp_path: Path) -> None:
    """It would end the thread without a word."""
    driver_file = tmp_path / "nvidiactl"
    driver_file.touch()

    def fail(_: Intern) -> NvmlSampler:
        raise RuntimeError("a defect")

    sampling = GpuSampling(Names(), fail, (driver_file,))

    def raised() -> Exception | None:
        try:
            sampling.samples(0)
        except RuntimeError as error:
            return error
        return None

    assert "a defect" in str(until(raised))


def test_stopping_gives_back_what_the_driver_keeps(rig: Rig) -> None:
    """In the thread that took it."""
    rig.answered()
    rig.sampling.stop()
    assert rig.driver.closed.wait(LIMIT_SECONDS)
