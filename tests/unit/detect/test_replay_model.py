from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinchpoint.detect.replay_model import REQUESTS_MAX, Job, Model, replay


def jobs(*rows: tuple[float, float]) -> list[Job]:
    """Jobs of `(arrival, service)` that waited as a first-come first-served server makes them."""
    return [Job(arrival, 0.0, service) for arrival, service in rows]


def waited(given_jobs: Sequence[Job], servers: int) -> list[Job]:
    """The same jobs with the wait that `servers` servers give them, found by brute force."""
    free = [0.0] * servers
    result = []
    for job in given_jobs:
        server = min(range(servers), key=lambda i: free[i])
        begin = max(job.arrival_seconds, free[server])
        free[server] = begin + job.service_seconds
        result.append(job._replace(queue_seconds=begin - job.arrival_seconds))
    return result


def modelled(given_jobs: Sequence[Job], servers: int) -> Model:
    """The model of a window that begins with the first job and ends with the last arrival."""
    times = [job.arrival_seconds for job in given_jobs] or [0.0]
    return Model(given_jobs, servers, min(times), max(times))


STREAMS = st.lists(st.tuples(st.floats(0, 0.5), st.floats(0.001, 1.0)), min_size=1, max_size=60)


def arrivals(stream: list[tuple[float, float]]) -> list[Job]:
    now = 0.0
    result = []
    for gap, service in stream:
        now += gap
        result.append(Job(now, 0.0, service))
    return result


def test_one_server_serves_in_the_order_of_arrival() -> None:
    """Three jobs of 1 s at 0, 0 and 0.5 s end at 1, 2 and 3 s."""
    outcome = replay(jobs((0, 1), (0, 1), (0.5, 1)), 1)
    assert outcome.mean_seconds == pytest.approx((1 + 2 + 2.5) / 3)


def test_two_servers_work_side_by_side() -> None:
    """The third of three jobs takes the server that is free first."""
    outcome = replay(jobs((0, 1), (0, 3), (0.5, 1)), 2)
    assert outcome.mean_seconds == pytest.approx((1 + 3 + 1.5) / 3)


def test_servers_that_are_still_busy_delay_the_first_jobs() -> None:
    """`warm` says when the servers of a window that began with a backlog become free."""
    assert replay(jobs((10, 1), (10, 1)), 2, warm=(12.0,)).mean_seconds == pytest.approx(1.5)
    assert replay(jobs((10, 1), (10, 1)), 2, warm=(12.0, 14.0)).mean_seconds == pytest.approx(3.5)


def test_utilization_is_offered_work_over_capacity() -> None:
    """Six seconds of work over ten seconds and two servers is 30 %."""
    assert Model(jobs((0, 3), (6, 3)), 2, 0.0, 10.0).utilization == pytest.approx(0.3)


def test_work_outside_the_window_does_not_count() -> None:
    """A request of a minute fills its worker for the window, not six of them."""
    assert Model(jobs((0, 60)), 2, 50.0, 60.0).utilization == pytest.approx(0.5)


def test_a_burst_leaves_the_servers_idle_for_the_rest_of_the_window() -> None:
    """Sixteen requests at once are little work for ten seconds."""
    burst = jobs(*[(0.0, 0.1)] * 16)
    assert Model(burst, 8, 0.0, 10.0).utilization == pytest.approx(0.02)


@given(STREAMS)
def test_one_server_agrees_with_lindleys_recursion(stream: list[tuple[float, float]]) -> None:
    """The wait of the next is the wait and service of the last less the gap between them."""
    given_jobs = arrivals(stream)
    wait = total = 0.0
    for number, job in enumerate(given_jobs):
        if number:
            last = given_jobs[number - 1]
            gap = job.arrival_seconds - last.arrival_seconds
            wait = max(0.0, wait + last.service_seconds - gap)
        total += wait + job.service_seconds
    assert replay(given_jobs, 1).mean_seconds == pytest.approx(total / len(given_jobs))


@given(STREAMS, st.integers(1, 8), st.integers(1, 8))
def test_more_servers_never_hurt(
    stream: list[tuple[float, float]], servers: int, more: int
) -> None:
    """A gain from parallelism is never a loss."""
    given_jobs = arrivals(stream)
    few, many = replay(given_jobs, servers), replay(given_jobs, servers + more)
    assert many.mean_seconds <= few.mean_seconds + 1e-9
    assert many.p95_seconds <= few.p95_seconds + 1e-9


@given(STREAMS, st.integers(1, 4), st.floats(0, 2))
def test_removing_service_time_never_hurts(
    stream: list[tuple[float, float]], servers: int, removed: float
) -> None:
    """Whatever is taken from whichever job, even more than it has, no job ends later."""
    model = modelled(arrivals(stream), servers)
    gain = model.gain(removed=[removed if i % 3 else 0.0 for i in range(len(model.jobs))])
    less = [
        job._replace(service_seconds=max(0.0, job.service_seconds - (removed if i % 3 else 0.0)))
        for i, job in enumerate(model.jobs)
    ]
    before, after = replay(model.jobs, servers), replay(less, servers)
    assert after.mean_seconds <= before.mean_seconds + 1e-9
    assert 0.0 <= gain.mean_ratio <= 1.0
    assert gain.p95_ratio is not None
    assert 0.0 <= gain.p95_ratio <= 1.0
    assert gain.utilization_after <= model.utilization + 1e-9


def test_removing_nothing_gains_nothing() -> None:
    """The counterfactual of no change is the fact."""
    model = modelled(arrivals([(0.1, 0.2)] * 20), 1)
    gain = model.gain(removed=[0.0] * 20)
    assert (gain.mean_ratio, gain.p95_ratio) == (0.0, 0.0)


def test_removing_a_wait_under_queueing_gains_more_than_its_share() -> None:
    """Half the service time of a server that is never idle is far more than half of latency."""
    model = modelled(waited(arrivals([(0.1, 0.12)] * 100), 1), 1)
    assert model.gain(removed=[0.06] * 100).mean_ratio > 0.9


def test_a_faithful_window_is_trusted() -> None:
    """What first-come first-served servers did is what the model says they do."""
    assert modelled(waited(arrivals([(0.1, 0.15), (0.02, 0.1)] * 50), 2), 2).trusted()


def test_a_window_whose_waits_the_model_does_not_give_is_not_trusted() -> None:
    """Jobs that waited a second for a server that was free were held up by something else."""
    observed = [job._replace(queue_seconds=1.0) for job in arrivals([(0.5, 0.1)] * 50)]
    assert not modelled(observed, 4).trusted()
    assert not modelled(observed, 4).gain(removed=[0.05] * 50).trusted


def test_a_window_that_begins_in_a_backlog_is_trusted() -> None:
    """Its first jobs wait for work from before it, which the replay is told of."""
    history = waited(arrivals([(0.1, 0.12)] * 200), 1)
    assert modelled(history[100:], 1).trusted()


def test_a_backlog_from_before_the_window_is_no_gain() -> None:
    """Doing nothing about a window with a backlog gains nothing."""
    history = waited(arrivals([(0.1, 0.12)] * 200), 1)
    assert modelled(history[100:], 1).gain(removed=[0.0] * 100).mean_ratio == 0.0


def test_no_jobs_have_no_gain_and_no_utilization() -> None:
    """An empty window divides by nothing."""
    model = modelled([], 4)
    assert model.utilization == 0.0
    assert not model.trusted()
    assert model.gain(removed=[]) == (0.0, 0.0, 0.0, False)


def test_jobs_without_any_time_do_not_divide_by_zero() -> None:
    """Everything at once and nothing to do."""
    gain = modelled([Job(1.0, 0.0, 0.0)] * 5, 2).gain(removed=[1.0] * 5)
    assert (gain.mean_ratio, gain.p95_ratio) == (0.0, 0.0)


def test_only_the_newest_jobs_are_replayed() -> None:
    """The cost of a replay is bounded."""
    model = modelled([Job(float(i), 0.0, 0.1) for i in range(REQUESTS_MAX + 5)], 1)
    assert len(model.jobs) == REQUESTS_MAX
    assert model.jobs[0].arrival_seconds == 5.0


def test_jobs_may_come_in_any_order() -> None:
    """They are replayed as they arrived, not as they ended."""
    ordered = arrivals([(0.1, 0.15)] * 10)
    assert modelled(ordered[::-1], 1).jobs == ordered
