"""What is said of servers by their own metrics: a queue before a full server, or why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pinchpoint.detect.verdict import Verdict
from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.observations import Name, NameKind, Observation, SourceOpened, Tick
from pinchpoint.schema.samples import ServedSample, ServerSample, SignalSample

SECOND = 1_000_000_000
SOURCE, SERVER, MODEL = 1_000_001, 1, 2

At = Callable[[int], dict[str, float]]
"""The fields of a model's sample at a second."""


def steady(**per_second: float) -> At:
    """Gauges as they are; counters, which are named `…_rate`, a second."""

    def at(second: int) -> dict[str, float]:
        return {
            name.removesuffix("_rate"): value * second if name.endswith("_rate") else value
            for name, value in per_second.items()
        }

    return at


def verdicts(*models: At, seconds: int = 14, server: str = "vllm") -> list[Verdict]:
    """One a second, of a server that is read each second."""
    pipeline = Pipeline()
    said = []

    def feed(record: SourceOpened | Name | ServedSample | ServerSample | Tick) -> None:
        verdict = pipeline.feed(Observation(0 if isinstance(record, Tick) else SOURCE, record))
        if verdict is not None:
            said.append(verdict)

    feed(SourceOpened(SECOND, 0, 0))
    feed(Name(SERVER, NameKind.SERVER, 0, server))
    for number, _ in enumerate(models):
        feed(Name(MODEL + number, NameKind.MODEL, 0, f"m{number}"))
    for second in range(1, seconds + 1):
        for number, at in enumerate(models):
            feed(ServedSample(second * SECOND, MODEL + number, **at(second)))
        feed(ServerSample(second * SECOND, SERVER))
        feed(Tick(second * SECOND, second * SECOND))
    return said


def last(*models: At, server: str = "vllm") -> Verdict:
    return verdicts(*models, server=server)[-1]


FULL_VLLM = steady(running=64, waiting=40, finished_rate=8, cache_usage_ratio=0.97)


def test_a_queue_that_stands_before_a_full_server_is_saturation() -> None:
    verdict = last(FULL_VLLM)
    assert (verdict.state, verdict.primary) == ("bottleneck", "queue_saturation")
    found = verdict.active[0].found
    assert found.share_ratio == pytest.approx(40 / 104)
    assert {e.name: e.value for e in found.evidence} == {
        "queue_share_ratio": pytest.approx(40 / 104),
        "requests_waiting": 40.0,
        "requests_running": 64.0,
        "cache_usage_ratio": 0.97,
    }
    assert found.summary == (
        "Requests wait 38 % of their time in the queue of vllm (m0), which is full."
    )


def test_no_single_request_is_made_up() -> None:
    verdict = last(FULL_VLLM)
    found = verdict.active[0].found
    assert verdict.decomposition.latency_seconds == 0
    assert verdict.traffic.p50_seconds is None
    assert found.gain.p95_ratio is None
    assert not found.gain.trusted


def test_one_look_is_not_enough_and_three_readings_are_needed() -> None:
    states = [verdict.state for verdict in verdicts(FULL_VLLM, seconds=4)]
    assert states == ["unknown", "unknown", "unknown", "bottleneck"]


def test_it_ends_when_the_queue_is_gone() -> None:
    def at(second: int) -> dict[str, float]:
        waiting = 40 if second < 20 else 0
        return steady(running=64, waiting=waiting, finished_rate=8)(second)

    said = verdicts(at, seconds=40)
    assert said[18].primary == "queue_saturation"
    assert (said[-1].state, said[-1].active) == ("healthy", ())


def test_a_server_that_keeps_up_is_healthy() -> None:
    verdict = last(steady(running=5, waiting=0, finished_rate=8, request_seconds_rate=6))
    assert verdict.state == "healthy"
    assert verdict.traffic.requests == 80
    assert verdict.traffic.requests_per_second == pytest.approx(8)
    assert verdict.traffic.mean_seconds == pytest.approx(0.75)
    assert verdict.traffic.in_flight == 5


def test_a_queue_that_comes_and_goes_does_not_stand() -> None:
    def at(second: int) -> dict[str, float]:
        return steady(running=4, waiting=0 if second % 3 else 12, finished_rate=8)(second)

    verdict = last(at)
    assert verdict.state == "unknown"
    assert "does not stand" in verdict.reason


def test_a_short_queue_is_not_saturation() -> None:
    verdict = last(steady(running=64, waiting=8, finished_rate=8))
    assert verdict.state == "healthy"
    assert verdict.ruled_out[0].reason == "11 % of the time of requests in vllm (m0) is waiting"


def test_requests_that_wait_while_none_runs_are_not_explained() -> None:
    verdict = last(steady(running=0, waiting=8, finished_rate=8, request_seconds_rate=0))
    assert verdict.state == "unknown"


def test_long_answers_that_go_on_are_healthy_and_stuck_ones_are_not() -> None:
    going_on = steady(running=3, waiting=0, finished_rate=0, generated_tokens_rate=90)
    stuck = steady(running=3, waiting=0, finished_rate=0, generated_tokens_rate=0)
    assert last(going_on).state == "healthy"
    assert last(stuck).state == "unknown"
    assert last(stuck).reason == "3 requests in vllm, hardly any complete"


def test_a_server_without_requests_is_idle() -> None:
    verdict = last(steady(running=0, waiting=0, finished_rate=0))
    assert (verdict.state, verdict.reason) == ("idle", "0 requests in the last 10 s")


def triton(**changed: float) -> At:
    figures = {
        "waiting": 40.0,
        "finished_rate": 80.0,
        "executions_rate": 10.0,
        "request_seconds_rate": 60.0,
        "queue_seconds_rate": 45.0,
    }
    return steady(**{**figures, **changed})


def test_triton_is_full_when_more_wait_than_one_batch_holds() -> None:
    found = last(triton(), server="triton").active[0].found
    assert found.share_ratio == pytest.approx(0.75)
    assert {e.name: e.value for e in found.evidence}["batch_size"] == pytest.approx(8)


def test_requests_that_wait_for_a_batch_to_fill_are_not_saturation() -> None:
    verdict = last(triton(waiting=5), server="triton")
    assert verdict.state == "unknown"
    assert verdict.ruled_out[0].gate == "exclusion"
    assert (
        verdict.reason
        == "requests wait, but no more wait in triton (m0) than go into a batch (8.0)"
    )


def test_the_busiest_model_is_named() -> None:
    calm = triton(waiting=0, queue_seconds_rate=1)
    found = last(calm, triton(), calm, server="triton").active[0].found
    assert "triton (m1)" in found.summary


TORCHSERVE = {"finished_rate": 10.0, "request_seconds_rate": 4.0, "queue_seconds_rate": 3.0}


def test_torchserve_alone_cannot_say_that_it_is_full() -> None:
    verdict = last(steady(**TORCHSERVE), server="torchserve")
    assert verdict.state == "unknown"
    assert verdict.reason.startswith(
        "requests wait, but torchserve (m0) does not say how many requests it works on at once"
    )


def test_with_its_concurrency_known_it_can() -> None:
    full = last(steady(**TORCHSERVE, concurrency=1), server="torchserve")
    assert full.primary == "queue_saturation"
    spare = last(steady(**TORCHSERVE, concurrency=4), server="torchserve")
    assert spare.state == "unknown"
    assert "has room: 25 % of its places (4) are taken" in spare.reason


def test_torchserve_without_requests_may_be_idle_or_stuck() -> None:
    silent = steady(finished_rate=0, request_seconds_rate=0, queue_seconds_rate=0)
    verdict = last(silent, server="torchserve")
    assert verdict.state == "unknown"
    assert "does not say whether any are in it" in verdict.reason
    assert verdict.traffic.in_flight is None


def test_a_restart_is_not_negative_traffic() -> None:
    def at(second: int) -> dict[str, float]:
        return {"running": 2, "waiting": 0, "finished": 8.0 * (second % 7)}

    assert 0 < last(at).traffic.requests < 80


def alone(*signals: tuple[str, float]) -> Verdict:
    """What is said of signals and no server."""
    pipeline = Pipeline()
    for number, (name, available) in enumerate(signals):
        source = SOURCE + 2 * number
        pipeline.feed(Observation(source, Name(1, NameKind.OTHER, 0, name)))
        pipeline.feed(Observation(source, SignalSample(SECOND, 1, available=available)))
    verdict = pipeline.feed(Observation(0, Tick(SECOND, SECOND)))
    assert verdict is not None
    assert verdict.state == "unknown"
    return verdict


def test_adapters_that_find_no_server_are_named() -> None:
    verdict = alone(("adapter/vllm", 0), ("adapter/tgi", 0), ("gpu", 0), ("adapter/vllm", 0))
    assert verdict.reason == "no server is read: see the signal adapter/tgi, adapter/vllm"


def test_without_an_adapter_that_fails_the_probe_is_asked_for() -> None:
    verdict = alone(("adapter/vllm", 1), ("gpu", 0))
    assert verdict.reason == "no serving process is attached: is the probe in the server?"


def test_a_server_that_falls_silent_hangs() -> None:
    pipeline = Pipeline()
    pipeline.feed(Observation(SOURCE, SourceOpened(SECOND, 0, 0)))
    sample = ServedSample(SECOND, 0, running=3.0, waiting=0.0)
    pipeline.feed(Observation(SOURCE, sample))
    verdict = None
    for second in range(1, 8):
        verdict = pipeline.feed(Observation(0, Tick(second * SECOND, second * SECOND)))
    assert verdict is not None
    assert verdict.state == "unknown"
    assert "it hangs" in verdict.reason
