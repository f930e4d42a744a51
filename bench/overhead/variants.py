"""What is measured: nothing, Pinchpoint, and its peers, each installed as its users do.

One of them is installed in a process, before its server is made. Afterwards `seen()` says
how many RPCs it counted as OK: a variant that measured nothing must not look cheap.
grpcio-observability is left out: it pins the exact version of grpcio.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BARE, BARE_AGAIN = "bare", "bare again"
PINCHPOINT, PINCHPOINT_SAMPLED = "Pinchpoint", "Pinchpoint, every request sampled"
PY_GRPC_PROMETHEUS, OPENTELEMETRY = "py-grpc-prometheus", "OpenTelemetry"

SAMPLE_ALL_PER_SECOND, SAMPLE_NONE_PER_SECOND = 0.0, 1e12
STEADY_PER_SECOND = 5_000.0
"""Request rates that the probe is told: it samples so that 25 requests a second are looked at
in detail, and measures the rate once a second. Turns are shorter than that: left alone it
would take each for the end of a pause and look at every request."""


class Bare:
    """Nothing is installed. The other variants change what they need to."""

    counts = False
    """Whether `seen()` says something."""

    def install(self) -> None:
        """Before the server is made."""

    def interceptors(self) -> Sequence[Any]:
        """For `grpc.server`."""
        return ()

    def aio_interceptors(self) -> Sequence[Any]:
        """For `grpc.aio.server`."""
        return self.interceptors()

    def ready(self) -> None:
        """The server has been made."""

    def seen(self) -> int:
        """RPCs that ended OK since the start."""
        return 0

    def sampled(self) -> int | None:
        """RPCs looked at in detail since the start; None where there is no such thing."""
        return None


class Pinchpoint(Bare):
    """The probe, without an agent.

    Args:
        requests_per_second: the rate that its sampling is held at.
    """

    counts = True

    def __init__(self, requests_per_second: float) -> None:
        self._requests_per_second = requests_per_second
        self._records: Counter[type] = Counter()

    def install(self) -> None:
        """As a server's main module does it."""
        shared_memory = Path("/dev/shm")
        self._directory = tempfile.TemporaryDirectory(
            dir=shared_memory if shared_memory.is_dir() else None
        )
        os.environ["PINCHPOINT_RING_DIR"] = self._directory.name
        import pinchpoint

        if not pinchpoint.install():
            raise RuntimeError("the probe did not start")

    def ready(self) -> None:
        """Attach to the ring as the agent does, and hold the sampling."""
        from pinchpoint.ring.reader import RingReader

        rings = list(Path(self._directory.name).glob("*.ring"))
        if len(rings) != 1:
            raise RuntimeError(f"the probe did not start: there are {len(rings)} rings")
        self._reader = RingReader(rings[0], from_start=True)
        _hold(self._requests_per_second)

    def seen(self) -> int:
        """The requests of the ring."""
        from pinchpoint.schema.events import RequestEvent

        return self.records(RequestEvent)

    def sampled(self) -> int | None:
        """The details of the ring."""
        from pinchpoint.schema.events import RequestDetail

        return self.records(RequestDetail)

    def records(self, kind: type) -> int:
        """Records of one kind since the start; of requests those that ended OK.

        Raises:
            RuntimeError: events were overwritten before they were read.
        """
        from pinchpoint.schema.wire import Segment, unpack_detail, unpack_event

        def lost(loss: object) -> None:
            raise RuntimeError(f"records were lost: {loss}")

        events = map(unpack_event, self._reader.poll(Segment.EVENTS, 0, lost))
        self._records.update(type(event) for event in events if not getattr(event, "status", 0))
        details = map(unpack_detail, self._reader.poll(Segment.DETAILS, 0, lambda _: None))
        self._records.update(map(type, details))
        return self._records[kind]


def _hold(requests_per_second: float) -> None:
    """Sample as at this rate from now on, whatever the probe's own threads find."""
    from pinchpoint.probe.recorder import Recorder

    (recorder,) = (thing for thing in gc.get_objects() if type(thing) is Recorder)
    recorder.adapt(requests_per_second)
    setattr(Recorder, "adapt", lambda *_, **__: None)  # noqa: B010  # mypy: it is a method
    setattr(Recorder, "weigh", lambda self: self.every)  # noqa: B010


class PyGrpcPrometheus(Bare):
    """Its interceptor, with the histogram."""

    counts = True

    def interceptors(self) -> Sequence[Any]:
        """As in its README."""
        from py_grpc_prometheus.prometheus_server_interceptor import PromServerInterceptor

        return (PromServerInterceptor(enable_handling_time_histogram=True),)

    def seen(self) -> int:
        """The counter of handled RPCs."""
        from prometheus_client import REGISTRY

        return sum(
            int(sample.value)
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name == "grpc_server_handled_total" and sample.labels["grpc_code"] == "OK"
        )


class OpenTelemetry(Bare):
    """Its interceptor, the SDK's tracer and batch processor, and an exporter that drops spans."""

    counts = True

    def install(self) -> None:
        """As in its documentation."""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult as Result

        variant = self

        class Dropping(SpanExporter):  # type: ignore[misc]  # has no types
            def export(self, spans: Sequence[Any]) -> Any:
                variant._spans += len(spans)
                return Result.SUCCESS

        self._spans = 0
        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(Dropping()))
        trace.set_tracer_provider(self._provider)

    def interceptors(self) -> Sequence[Any]:
        """The one for `grpc.server`."""
        from opentelemetry.instrumentation.grpc import server_interceptor

        return (server_interceptor(),)

    def aio_interceptors(self) -> Sequence[Any]:
        """The one for `grpc.aio.server`."""
        from opentelemetry.instrumentation.grpc import aio_server_interceptor

        return (aio_server_interceptor(),)

    def seen(self) -> int:
        """The spans that reached the exporter."""
        self._provider.force_flush()
        return self._spans


VARIANTS: dict[str, Callable[[], Bare]] = {
    BARE: Bare,
    BARE_AGAIN: Bare,
    PINCHPOINT: lambda: Pinchpoint(STEADY_PER_SECOND),
    PINCHPOINT_SAMPLED: lambda: Pinchpoint(SAMPLE_ALL_PER_SECOND),
    PY_GRPC_PROMETHEUS: PyGrpcPrometheus,
    OPENTELEMETRY: OpenTelemetry,
}
