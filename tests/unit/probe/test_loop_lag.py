from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from bisect import bisect_left

import pytest

from pinchpoint.probe import loop_lag
from pinchpoint.probe.guard import Part
from pinchpoint.probe.loop_lag import BEAT_SECONDS, JITTER_RATIO, LoopLag
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import LoopSample
from pinchpoint.schema.terms import GAP_BOUNDS_NS, OTHER
from tests.support.aio_servers import running_loop
from tests.support.waiting import LIMIT_SECONDS, until


class Names:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, _kind: NameKind, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def watching(part: Part | None = None) -> tuple[LoopLag, Names]:
    lag, names = LoopLag(part or Part("loops")), Names()
    lag.start(names)
    return lag, names


def counts(sample: LoopSample) -> list[float]:
    return [getattr(sample, f"lag_{n}") or 0 for n in range(len(GAP_BOUNDS_NS) + 1)]


def beats(lag: LoopLag) -> float:
    return sum(sample.beats or 0 for sample in lag.samples(1))


def test_every_beat_is_counted_once_by_its_lateness() -> None:
    """Under the name of the loop's thread."""
    lag, names = watching()
    with running_loop("server-loop") as loop:
        lag.watch(loop)
        assert until(lambda: beats(lag) >= 3)
        (thread,) = lag.threads()
    (sample,) = lag.samples(5)
    assert names.texts[int(sample.instance) - 1] == "server-loop"
    assert sample.time_ns == 5
    assert sum(counts(sample)) == sample.beats
    assert (sample.lag_ns or 0) > 0
    assert thread[0] != threading.get_ident()
    assert lag.threads() == []


def test_a_blocked_loop_is_one_late_beat() -> None:
    """As late as it was blocked after the beat was due."""
    lag, _ = watching()
    blocked_ns: list[int] = []

    def block() -> None:
        begin_ns = time.monotonic_ns()
        time.sleep(0.6)
        blocked_ns.append(time.monotonic_ns() - begin_ns)

    def lag_ns() -> float:
        return sum(sample.lag_ns or 0 for sample in lag.samples(1))

    def late_beats(late_ns: float) -> float:
        (sample,) = lag.samples(1)
        return sum(counts(sample)[bisect_left(GAP_BOUNDS_NS, late_ns) :])

    with running_loop() as loop:
        lag.watch(loop)
        assert until(lambda: beats(lag) >= 1)
        before_ns = lag_ns()
        loop.call_soon_threadsafe(block)
        assert until(lambda: blocked_ns)
        late_ns = blocked_ns[0] - BEAT_SECONDS * (1 + JITTER_RATIO) * 1e9
        assert until(lambda: lag_ns() >= before_ns + late_ns)
    assert late_beats(late_ns) >= 1


def test_a_loop_is_watched_on_after_the_switch() -> None:
    """While the part is off nothing is counted, and the timer goes on."""
    part = Part("loops")
    lag, _ = watching(part)
    with running_loop() as loop:
        lag.watch(loop)
        assert until(lambda: beats(lag) >= 1)
        part.enabled = False
        passed = threading.Event()
        loop.call_soon_threadsafe(loop.call_later, 0.5, passed.set)
        before = beats(lag)
        assert passed.wait(LIMIT_SECONDS)
        assert beats(lag) <= before + 1
        part.enabled = True
        assert until(lambda: beats(lag) >= before + 3)


def test_watching_again_sets_no_second_timer() -> None:
    """One beat at a time, however often a server starts."""
    lag, _ = watching()
    with running_loop() as loop:
        for _ in range(50):
            lag.watch(loop)
        assert until(lambda: beats(lag) >= 2)
        timers = until(lambda: _timers(loop))
    assert timers == 1


def _timers(loop: asyncio.AbstractEventLoop) -> int:
    return len(loop._scheduled)  # type: ignore[attr-defined]


def test_a_loop_ends_and_is_freed_as_it_would_be() -> None:
    """Its timer does not keep it, and is not run after it."""
    lag, _ = watching()

    async def main() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.get_running_loop()
        lag.watch(loop)
        await asyncio.sleep(0)
        return weakref.ref(loop)

    loop = asyncio.run(main())
    gc.collect()
    assert loop() is None
    assert lag.threads() == []


def test_a_second_loop_of_the_same_thread_counts_on() -> None:
    """Counters never fall."""
    lag, _ = watching()

    async def main() -> None:
        lag.watch(asyncio.get_running_loop())
        before = beats(lag)
        while beats(lag) == before:
            await asyncio.sleep(0.01)

    asyncio.run(main())
    first = beats(lag)
    asyncio.run(main())
    assert beats(lag) > first
    assert len(lag.samples(1)) == 1


def test_debug_mode_has_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    """No slow callback, no call from the wrong thread."""
    lag, _ = watching()
    with caplog.at_level(logging.DEBUG, "asyncio"), running_loop(debug=True) as loop:
        lag.watch(loop)
        assert until(lambda: beats(lag) >= 2)
    assert not [record for record in caplog.records if "LoopWatch" in record.getMessage()]


def test_forgetting_stops_the_timers() -> None:
    """What runs still sets no other; the loop may be watched anew."""
    lag, names = watching()
    with running_loop() as loop:
        lag.watch(loop)
        assert until(lambda: beats(lag) >= 1)
        lag.forget()
        assert lag.samples(1) == []
        assert until(lambda: _timers(loop) == 0)
        lag.start(names)
        lag.watch(loop)
        assert until(lambda: beats(lag) >= 1)


def test_a_closed_loop_is_not_our_error() -> None:
    """Somebody closed it between the server's start and ours."""
    part = Part("loops")
    lag, _ = watching(part)
    loop = asyncio.new_event_loop()
    lag.watch(loop)
    loop.close()
    lag.watch(loop)
    assert part.enabled


def test_an_error_ends_the_timer_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to the guard, not to the loop's exception handler."""
    part = Part("loops")
    lag, _ = watching(part)
    unhandled: list[object] = []

    def fail(*_args: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(loop_lag.LoopWatch, "_count", fail)
    with running_loop() as loop:
        loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
        lag.watch(loop)
        assert until(lambda: part.errors)
        assert until(lambda: _timers(loop) == 0)
    assert (part.enabled, unhandled) == (False, [])


def test_loops_beyond_the_cap_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of many names would fill the table of names."""
    monkeypatch.setattr(loop_lag, "LOOPS_MAX", 1)
    lag, names = watching()
    with running_loop("one") as one, running_loop("two") as two:
        lag.watch(one)
        assert until(lambda: beats(lag))
        lag.watch(two)
        assert until(lambda: len(lag.samples(1)) == 2 and all(s.beats for s in lag.samples(1)))
    assert names.texts == ["one", OTHER]
