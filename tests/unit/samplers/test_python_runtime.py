from __future__ import annotations

import gc
import threading
from functools import partial
from pathlib import Path

from pinchpoint.samplers.python_runtime import (
    BEAT_PERIOD_NS,
    JITTER_NS,
    GcWatch,
    Heartbeat,
    PythonSampler,
    next_deadline,
)
from pinchpoint.schema.samples import LATE_BEAT_NS, GcSample, PythonSample
from pinchpoint.schema.terms import GAP_BOUNDS_NS
from tests.unit.samplers.support import only, until

MS = 1_000_000


def test_a_beat_on_time_is_counted_and_not_late() -> None:
    heartbeat = Heartbeat()
    heartbeat.beat(100 * MS, 100 * MS + 150_000, 0)
    assert (heartbeat.beats, heartbeat.late_beats, heartbeat.gil_wait_ns) == (1, 0, 0)


def test_a_late_beat_waited_for_the_interpreter() -> None:
    heartbeat = Heartbeat()
    heartbeat.beat(100 * MS, 105 * MS, 0)
    assert (heartbeat.beats, heartbeat.late_beats, heartbeat.gil_wait_ns) == (1, 1, 5 * MS)


def test_the_own_wait_for_a_cpu_is_taken_off() -> None:
    heartbeat = Heartbeat()
    heartbeat.beat(100 * MS, 112 * MS, 4 * MS)
    heartbeat.beat(200 * MS, 212 * MS, 11 * MS)
    assert (heartbeat.late_beats, heartbeat.gil_wait_ns) == (1, 8 * MS)


def test_more_wait_for_a_cpu_than_lateness_is_no_credit() -> None:
    heartbeat = Heartbeat()
    heartbeat.beat(100 * MS, 101 * MS, 40 * MS)
    heartbeat.beat(200 * MS, 205 * MS, 0)
    assert heartbeat.gil_wait_ns == 5 * MS


def test_the_threshold_itself_is_not_late() -> None:
    heartbeat = Heartbeat()
    heartbeat.beat(0, LATE_BEAT_NS, 0)
    assert heartbeat.late_beats == 0
    heartbeat.beat(0, LATE_BEAT_NS + 1, 0)
    assert heartbeat.late_beats == 1


def test_waking_early_is_not_late() -> None:
    heartbeat = Heartbeat()
    heartbeat.beat(100 * MS, 99 * MS, 0)
    assert (heartbeat.late_beats, heartbeat.gil_wait_ns) == (0, 0)


def test_without_the_own_wait_there_is_no_figure_at_all() -> None:
    heartbeat = Heartbeat()
    heartbeat.beat(100 * MS, 150 * MS, None)
    assert heartbeat.beats == 1
    assert heartbeat.late_beats is None
    assert heartbeat.gil_wait_ns is None


def test_deadlines_follow_each_other_with_a_little_jitter() -> None:
    gaps = [next_deadline(0, beats, 0) for beats in range(100)]
    assert len(set(gaps)) == 100
    assert all(abs(gap - BEAT_PERIOD_NS) <= JITTER_NS / 2 for gap in gaps)
    assert abs(sum(gaps) / 100 - BEAT_PERIOD_NS) < JITTER_NS / 10


def test_missed_deadlines_are_left_out() -> None:
    now_ns = 10 * BEAT_PERIOD_NS
    assert now_ns < next_deadline(0, 3, now_ns) <= now_ns + BEAT_PERIOD_NS + JITTER_NS


def test_the_loop_beats_until_it_is_stopped() -> None:
    heartbeat, stop = Heartbeat(), threading.Event()
    thread = threading.Thread(target=heartbeat.run, args=(stop.is_set,))
    thread.start()
    assert until(lambda: heartbeat.beats >= 2)
    stop.set()
    thread.join()
    assert heartbeat.gil_wait_ns is not None


def test_the_loop_runs_where_the_kernel_keeps_no_times(tmp_path: Path) -> None:
    heartbeat = Heartbeat()
    heartbeat.run(lambda: heartbeat.beats >= 1, str(tmp_path / "none"))
    assert heartbeat.beats == 1
    assert heartbeat.gil_wait_ns is None


def test_a_collection_is_counted_and_timed() -> None:
    watch = GcWatch()
    watch.install()
    try:
        before = watch.collections
        gc.collect()
    finally:
        watch.uninstall()
    assert watch.collections == before + 1
    assert watch.pause_ns > 0
    assert sum(watch.pauses) == watch.collections


def test_installing_twice_counts_once() -> None:
    watch = GcWatch()
    watch.install()
    watch.install()
    try:
        before = watch.collections
        gc.collect()
        assert watch.collections == before + 1
    finally:
        watch.uninstall()


def test_uninstalling_stops_the_count_and_may_be_repeated() -> None:
    watch = GcWatch()
    callbacks = list(gc.callbacks)
    watch.install()
    watch.uninstall()
    watch.uninstall()
    assert gc.callbacks == callbacks
    before = watch.collections
    gc.collect()
    assert watch.collections == before


def test_a_collection_that_began_before_is_left_out() -> None:
    watch = GcWatch()
    watch._on_collection("stop", {})
    assert (watch.collections, watch.pause_ns) == (0, 0)


def test_the_sample_carries_both() -> None:
    heartbeat, watch = Heartbeat(), GcWatch()
    heartbeat.beat(0, 9 * MS, 0)
    watch.collections, watch.pause_ns = 3, 44
    reading = only(PythonSampler(heartbeat, watch).sample(7), PythonSample)
    assert reading == PythonSample(
        7, 0, reading.gil_enabled, 1, 1, 9 * MS, gc_collections=3, gc_pause_ns=44
    )
    assert reading.gil_enabled in (0, 1)


def test_pauses_are_counted_by_how_long_they_were() -> None:
    watch = GcWatch()
    for begin_ns, end_ns in ((10, 20), (10, 10 + 2 * MS), (10, 10 + 60_000 * MS)):
        watch._on_collection("start", {}, partial(int, begin_ns))
        watch._on_collection("stop", {}, partial(int, end_ns))
    reading = only(PythonSampler(Heartbeat(), watch).sample(7), GcSample)
    counts = [getattr(reading, f"pause_{number}") for number in range(len(GAP_BOUNDS_NS) + 1)]
    assert {bound: count for bound, count in enumerate(counts) if count} == {
        0: 1,
        next(i for i, bound in enumerate(GAP_BOUNDS_NS) if bound >= 2 * MS): 1,
        len(GAP_BOUNDS_NS): 1,
    }
    assert reading.pause_ns == 10 + 60_002 * MS
