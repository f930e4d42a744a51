"""The agent's loop, by what it records: when it looks, and what a reload leaves alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from pinchpoint.adapters.target import AdapterTarget
from pinchpoint.config.load import Loaded
from pinchpoint.config.model import Config
from pinchpoint.recording import Recording
from pinchpoint.schema.observations import Tick
from pinchpoint.sidecar.app import Agent, AgentOptions
from pinchpoint.sidecar.reload import Reloads
from pinchpoint.sidecar.schedule import JITTER_NS, PERIOD_NS

WAKE_NS = 30_000_000


class Clock:
    """Time that passes when it is waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 1_000_000_000
        clock = SimpleNamespace(monotonic_ns=lambda: self.now_ns, time_ns=lambda: self.now_ns)
        monkeypatch.setattr("pinchpoint.sidecar.app.time", clock)

    def sleep(self, seconds: float) -> None:
        """Pass the time."""
        self.now_ns += round(seconds * 1e9)


@pytest.mark.parametrize("wakes", [200, 0])
def test_being_woken_for_reloads_neither_hastens_nor_delays_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wakes: int
) -> None:
    clock = Clock(monkeypatch)
    began_ns = clock.now_ns
    reads = []

    def read() -> Loaded:
        reads.append(clock.now_ns)
        return Loaded(Config(), {}, ())

    reloads = Reloads(Config(), read, lambda _: None)
    asked = 0

    def wait(seconds: float) -> bool:
        nonlocal asked
        woken = asked < wakes and seconds > WAKE_NS / 1e9
        clock.sleep(WAKE_NS / 1e9 if woken else seconds)
        if woken:
            asked += 1
            reloads.ask()
        return clock.now_ns < began_ns + 10 * PERIOD_NS

    recording = tmp_path / "run.rec"
    options = AgentOptions("127.0.0.1:0", tmp_path / "rings", recording)
    agent = Agent(options, lambda _: None, reloads)
    try:
        agent.run(wait)
    finally:
        agent.close()
    looks = [o.record.time_ns for o in Recording(recording) if isinstance(o.record, Tick)]
    assert looks[0] == began_ns
    assert looks[-1] == clock.now_ns
    gaps = [later - earlier for earlier, later in pairwise(looks[:-1])]
    assert all(abs(gap - PERIOD_NS) <= JITTER_NS for gap in gaps), gaps
    assert len(reads) == asked


def test_a_reload_that_fails_while_it_applies_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = AdapterTarget("vllm", "http://127.0.0.1:9/metrics")
    wanted = replace(Config(), adapters=(target,))
    reloads = Reloads(Config(), lambda: Loaded(wanted, {}, ()), lambda _: None)
    agent = Agent(AgentOptions("127.0.0.1:0", tmp_path), lambda _: None, reloads)

    def outcome() -> str | None:
        answer = reloads.ask()
        agent.run(lambda _: False)
        return answer.result(0)

    begun: list[AdapterTarget] = []

    class Scraper:
        """Begins at the second attempt."""

        def __init__(self, target: AdapterTarget) -> None:
            begun.append(target)
            if len(begun) == 1:
                raise RuntimeError("can't start new thread")

        def take(self) -> list[object]:
            return []

        def close(self) -> None:
            pass

    monkeypatch.setattr("pinchpoint.sidecar.adapters.Scraper", Scraper)
    try:
        assert "can't start new thread" in str(outcome())
        assert outcome() is None
        assert outcome() is None
    finally:
        agent.close()
    assert begun == [target] * 2
