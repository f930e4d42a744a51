"""A closed-loop client: a fixed number of callers, each sending as soon as it is answered."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import grpc

from examples.load.client import make_request
from examples.load.images import make_images

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Load:
    """What a run of the client saw."""

    requests: int
    requests_per_second: float
    p50_seconds: float


def run(address: str, callers: int, seconds: float) -> Load:
    """Call the server from `callers` threads for `seconds`, and measure each call."""
    request = make_request(make_images(1, seed=1)[0], 0)
    latencies: list[list[float]] = [[] for _ in range(callers)]
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(_METHOD)
        call(request, timeout=_TIMEOUT_SECONDS, wait_for_ready=True)
        begin = time.perf_counter()
        threads = [
            threading.Thread(target=_call_until, args=(call, request, begin + seconds, seen))
            for seen in latencies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.perf_counter() - begin
    everything = [latency for seen in latencies for latency in seen]
    return Load(len(everything), len(everything) / elapsed, median(everything))


def _call_until(call: Any, request: bytes, end: float, seen: list[float]) -> None:
    while (begin := time.perf_counter()) < end:
        call(request, timeout=_TIMEOUT_SECONDS)
        seen.append(time.perf_counter() - begin)
