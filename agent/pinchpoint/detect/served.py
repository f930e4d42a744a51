"""Servers without a probe: what their own metrics allow to be said.

Such a server gives gauges and running sums, no requests one by one: there is no decomposition
and no replay, and one label can be given, `queue_saturation`. A server is as good as full when

1. its queue stands: at no reading of the window was it empty;
2. waiting is at least `QUEUE_SHARE` of the time that its requests spend in it, by the mean
   numbers that wait and run, or by the sums of those that ended (Little's law makes them one);
3. it is busy, as far as it says what it can do:
   - with a known concurrency, most of its places are taken;
   - a server that tells what runs (vLLM, SGLang, TGI) takes in a waiting request as soon as there
     is room, so while its queue stands and requests run it is full by its own account;
   - one that tells its batches (Triton) has more waiting than one batch holds: requests may wait
     for a batch to fill, but not more of them than go into it;
   - else (TorchServe) it cannot be told, and that is what is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from pinchpoint.detect import labels
from pinchpoint.detect.features import Traffic
from pinchpoint.detect.findings import Evidence, Finding, Found, RuledOut
from pinchpoint.detect.replay_model import Gain
from pinchpoint.detect.served_load import Load, load_of
from pinchpoint.detect.thresholds import (
    QUEUE_SHARE,
    REQUESTS_MIN,
    SERVED_BUSY_RATIO,
    SERVED_READINGS_MIN,
)
from pinchpoint.detect.window import Window
from pinchpoint.schema.samples import ServedSample, ServerSample


@dataclass(frozen=True)
class Served:
    """What is said of all such servers together; `state` unless a label is active."""

    finding: Finding
    state: str
    reason: str
    traffic: Traffic


def consider_served(window: Window) -> Served | None:
    """What the window's servers without a probe say; None if there are none."""
    loads = [load_of(window, *series) for series in window.series(ServedSample)]
    if not loads:
        return None
    findings = [(queue_saturation(load), load.queue_share or 0.0) for load in loads]
    finding, _ = max(findings, key=lambda item: (isinstance(item[0], Found), item[1]))
    state, reason = _state(loads, finding)
    return Served(finding, state, reason, _traffic(window, loads))


def queue_saturation(load: Load) -> Finding:
    """A queue that stands before a server that is full."""
    label, share, least = labels.QUEUE_SATURATION, load.queue_share, load.queued_least
    if load.readings < SERVED_READINGS_MIN:
        return RuledOut(label, "signal", f"{load.of} has been read {load.readings} times only")
    if share is None or least is None:
        return RuledOut(label, "signal", f"{load.of} does not say how long requests wait in it")
    if share < QUEUE_SHARE:
        reason = f"{_percent(share)} of the time of requests in {load.of} is waiting"
        return RuledOut(label, "mechanism", reason)
    if least < 1:
        return RuledOut(label, "mechanism", f"the queue of {load.of} does not stand")
    busy = _busy(load)
    if isinstance(busy, RuledOut):
        return busy
    queued = load.queued or 0.0
    evidence = [
        Evidence(
            "queue_share_ratio",
            share,
            "ratio",
            QUEUE_SHARE,
            f"{_percent(share)} of the time of requests in {load.of} is waiting",
        ),
        Evidence(
            "requests_waiting",
            queued,
            "requests",
            None,
            f"{queued:.1f} requests wait on average, never fewer than {least:.0f}"
            if load.waiting_least is not None
            else f"{queued:.1f} requests wait on average, by those that have ended",
        ),
        busy,
    ]
    if load.cache_usage is not None:
        text = f"{_percent(load.cache_usage)} of the cache of keys and values is used"
        evidence.append(Evidence("cache_usage_ratio", load.cache_usage, "ratio", None, text))
    if load.preemptions:
        text = f"{load.preemptions:.0f} requests were put back for want of room"
        evidence.append(Evidence("preemptions", load.preemptions, "requests", None, text))
    summary = (
        f"Requests wait {_percent(share)} of their time in the queue of {load.of}, which is full."
    )
    # Without the queue a request would take what is left of its time: no more than that is known.
    gain = Gain(share, None, 1.0, trusted=False)
    return Found(label, share, gain, tuple(evidence), summary)


def _busy(load: Load) -> Evidence | RuledOut:
    """Evidence that the server is full, or why it cannot be said."""
    label, at_work, queued = labels.QUEUE_SATURATION, load.at_work, load.queued or 0.0
    if load.concurrency and at_work is not None:
        ratio = at_work / load.concurrency
        text = f"{_percent(ratio)} of its places ({load.concurrency:.0f}) are taken"
        if ratio < SERVED_BUSY_RATIO:
            return RuledOut(label, "mechanism", f"{load.of} has room: {text}")
        return Evidence("places_taken_ratio", ratio, "ratio", SERVED_BUSY_RATIO, text)
    if load.running is not None and load.running_least is not None:
        if load.running_least < 1:
            return RuledOut(label, "mechanism", f"requests wait in {load.of} while none runs")
        text = f"{load.running:.1f} requests run on average; the server has no room for more"
        return Evidence("requests_running", load.running, "requests", None, text)
    if load.executions and load.finished:
        batch = load.finished / load.executions
        if queued <= batch:
            reason = f"no more wait in {load.of} than go into a batch ({batch:.1f})"
            return RuledOut(label, "exclusion", reason)
        text = f"more requests wait than go into a batch ({batch:.1f})"
        return Evidence("batch_size", batch, "requests", None, text)
    reason = (
        f"{load.of} does not say how many requests it works on at once: give the adapter its "
        "`concurrency`"
    )
    return RuledOut(label, "signal", reason)


def _state(loads: list[Load], finding: Finding) -> tuple[str, str]:
    """The state while no label is active, and why."""
    if isinstance(finding, Found):
        return "unknown", finding.summary
    if max(load.readings for load in loads) < SERVED_READINGS_MIN:
        return "unknown", finding.reason
    servers = ", ".join(sorted({load.server for load in loads}))
    finished = sum(load.finished or 0.0 for load in loads)
    in_flight = sum(load.in_flight or 0.0 for load in loads)
    if finished < REQUESTS_MIN:
        if in_flight >= 1 and not any(load.generated_tokens for load in loads):
            return "unknown", f"{in_flight:.0f} requests in {servers}, hardly any complete"
        if in_flight < 1:
            if any(load.in_flight is None for load in loads):
                return "unknown", (
                    f"{finished:.0f} requests ended in {servers} in the last 10 s, and it does "
                    "not say whether any are in it"
                )
            return "idle", f"{finished:.0f} requests in the last 10 s"
    if any(load.finished and load.queue_share is None for load in loads):
        return "unknown", finding.reason
    if any((load.queue_share or 0.0) >= QUEUE_SHARE for load in loads):
        return "unknown", f"requests wait, but {finding.reason}"
    return "healthy", f"requests do not queue in {servers}; other causes take a probe to see"


def _traffic(window: Window, loads: list[Load]) -> Traffic:
    servers = [series[-1] for _, _, series in window.series(ServerSample)]
    finished = sum(load.finished or 0.0 for load in loads)
    timed = [load for load in loads if load.request_seconds is not None and load.finished]
    ended = sum(load.finished or 0.0 for load in timed)
    return Traffic(
        requests=round(finished),
        requests_per_second=sum(
            (load.finished or 0.0) / load.seconds for load in loads if load.seconds
        ),
        mean_seconds=sum(load.request_seconds or 0.0 for load in timed) / ended if ended else None,
        in_flight=_total([load.in_flight for load in loads]),
        queued=_total([server.queued for server in servers]),
        workers=_total([server.workers for server in servers]),
        workers_busy=_total([server.workers_busy for server in servers]),
    )


def _total(values: list[float | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(sum(known)) if known else None


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %"
