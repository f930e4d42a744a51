"""A synthetic service: what a probe would have written of a server under a given load.

Requests come at random (seeded) times, wait for one of the workers first-come first-served,
and go through stages whose CPU, run-queue and blocked time is known. Counters advance with
them. The detector's tests say what a fault does to the figures by replacing fields of a `Load`.
"""

from __future__ import annotations

import heapq
import pickle
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from pinchpoint.detect.findings import Found
from pinchpoint.detect.verdict import Verdict
from pinchpoint.pipeline import Pipeline
from pinchpoint.schema.events import (
    FLAG_ASYNC,
    FLAG_BEHAVIOUR_CALLED,
    FLAG_DESERIALIZE_FAILED,
    FLAG_RESPONDED,
    FORWARD_GRAD,
    FORWARD_OUTSIDE,
    FORWARD_TRAINING,
    DeviceEvent,
    ForwardEvent,
    LayerEvent,
    RequestDetail,
    RequestEvent,
    StackEvent,
    StageEvent,
    StageTime,
    StreamEvent,
)
from pinchpoint.schema.observations import (
    Name,
    NameKind,
    Observation,
    Record,
    SourceClosed,
    SourceOpened,
    Tick,
)
from pinchpoint.schema.samples import (
    BusyThreadSample,
    CgroupCpuSample,
    MethodSample,
    ProcessSample,
    PythonSample,
    Sample,
    ServerSample,
    ThreadsSample,
)
from pinchpoint.schema.terms import (
    CATEGORY_INDEX,
    GRPC_CODES,
    GRPC_TYPES,
    HTTP,
    HTTP_STREAM,
    STAGE_INDEX,
    STAGES,
    UNARY,
)
from pinchpoint.schema.wire import GAP_COUNTS

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000
WALL_NS = 1_800_000_000 * SECOND_NS

METHOD = Name(1, NameKind.METHOD, 0, "/inference.GRPCInferenceService/ModelInfer")
MODEL = Name(2, NameKind.MODEL, 0, "ResNet")
HOT_LAYER = Name(3, NameKind.LAYER, 0, "layer3.0.conv1")
COLD_LAYER = Name(4, NameKind.LAYER, 0, "head")
CODE = Name(5, NameKind.LOCATION, 0, "server.py:41 prepare")
THREAD = Name(6, NameKind.THREAD, 0, "metrics-uploader")
SERVER = Name(7, NameKind.SERVER, 0, "[::]:8001")
NAMES = (METHOD, MODEL, HOT_LAYER, COLD_LAYER, CODE, THREAD, SERVER)

BIDI_STREAM = GRPC_TYPES.index("bidi_stream")
ROUTE = Name(11, NameKind.METHOD, HTTP, "GET /items/{item_id}")
CHAT = Name(12, NameKind.METHOD, BIDI_STREAM, "/chat.Chat/Talk")
TOKENISE = Name(13, NameKind.STAGE, 0, "tokenise")

SIZES = (150_528, 4_000)
"""Bytes of every request and response."""


class Stage(NamedTuple):
    """One stage of a request, in milliseconds."""

    cpu: float = 0.0
    runqueue: float = 0.0
    blocked: float = 0.0


@dataclass(frozen=True, eq=False)  # hashable, by identity: see `known`
class Load:
    """What the service is doing. The defaults are a healthy one."""

    rate: float = 40.0
    workers: int = 4
    stages: Mapping[str, Stage] = field(
        default_factory=lambda: {
            "receive": Stage(cpu=0.1, blocked=0.1),
            "preprocess": Stage(cpu=2.0),
            "forward": Stage(cpu=6.0),
            "send": Stage(cpu=0.1, blocked=0.1),
        }
    )
    looks: tuple[tuple[str, str], ...] = ()
    """Stage and category of every look of a second."""
    layers: Mapping[int, float] = field(default_factory=dict)
    """By layer's name id: milliseconds of own CPU in each of two sampled forwards a second."""
    gc_milliseconds: float = 0.0
    quota_cores: float | None = None
    throttled_periods_ratio: float = 0.0
    throttled_share: float = 0.0
    late_beats_ratio: float = 0.0
    gc_share: float = 0.0
    python_cores: float = 0.0
    native_cores: float = 0.0
    cpus: float = 2.0
    stuck: bool = False
    """Requests arrive and none completes."""
    without: frozenset[type] = frozenset()
    """Types of record that this probe does not write."""

    def stage(self, name: str, **changes: float) -> Load:
        """The same load with some figures of one stage replaced."""
        stages = dict(self.stages)
        stages[name] = stages.get(name, Stage())._replace(**changes)
        return self.but(stages={s: stages[s] for s in STAGES if s in stages})

    def but(self, **changes: object) -> Load:
        """The same load with some fields replaced."""
        return Load(**{**self.__dict__, **changes})


HEALTHY = Load()


class Service:
    """A serving process seen through its ring.

    Args:
        source: the number of its source.
        seed: of the arrivals and the jitter of the work.
        offset_ns: what to add to its times to get the agent's.
    """

    def __init__(self, source: int = 1, seed: int = 1, offset_ns: int = 0) -> None:
        self.source = source
        self.now_ns = 1_000 * SECOND_NS
        self._offset_ns = offset_ns
        self._random = random.Random(seed)
        self._free: list[int] = []
        self._next_ns: int | None = None
        self._running: list[tuple[int, int, RequestEvent, RequestDetail]] = []
        self._count = 0
        self._totals: dict[str, float] = {}

    def open(self) -> Iterator[Observation]:
        """The ring is attached and its names are read."""
        yield self._saw(SourceOpened(self.now_ns, 4242, self._offset_ns))
        for name in NAMES:
            yield self._saw(name)

    def close(self) -> Iterator[Observation]:
        """The process has gone."""
        yield self._saw(SourceClosed(self.now_ns))

    def run(self, load: Load, seconds: int) -> Iterator[Observation]:
        """What is seen of some seconds of a load, a tick at the end of each."""
        for _ in range(seconds):
            yield from self.second(load)
            yield self.tick()

    def second(self, load: Load) -> Iterator[Observation]:
        """One second without its tick."""
        end_ns = self.now_ns + SECOND_NS
        self._arrive(load, end_ns)
        records: list[Record] = []
        busy_ns = 0
        while not load.stuck and self._running and self._running[0][0] <= end_ns:
            _, _, event, detail = heapq.heappop(self._running)
            busy_ns += sum(stage.cpu_ns for stage in detail.stages)
            records += [event, detail]
            if event.forwards:
                start_ns = event.arrival_ns + event.queue_ns + event.preprocess_ns
                wall_ns = event.forward_ns
                records.append(
                    ForwardEvent(0, MODEL.name_id, 0, event.batch_size, 7, start_ns, wall_ns)
                )
        for number, (stage, category) in enumerate(load.looks):
            time_ns = self.now_ns + number * MILLISECOND_NS
            index = STAGE_INDEX[stage]
            records.append(
                StackEvent(
                    CATEGORY_INDEX[category], index, 7, METHOD.name_id, CODE.name_id, time_ns
                )
            )
        for sample in (1, 2):
            for layer, milliseconds in load.layers.items():
                cpu_ns = round(milliseconds * MILLISECOND_NS)
                number = self._count * 2 + sample
                records.append(
                    LayerEvent(MODEL.name_id, layer, 1, number, self.now_ns, cpu_ns, cpu_ns)
                )
        self.now_ns = end_ns
        records += self._samples(load, busy_ns)
        for record in records:
            if type(record) not in load.without:
                yield self._saw(record)

    def tick(self) -> Observation:
        """The agent's own clock at the end of the second."""
        now_ns = self.now_ns + self._offset_ns
        return Observation(0, Tick(now_ns, WALL_NS + now_ns))

    def _saw(self, record: Record) -> Observation:
        return Observation(self.source, record)

    def _arrive(self, load: Load, end_ns: int) -> None:
        if self._next_ns is None:
            self._next_ns = self.now_ns + self._gap_ns(load)
        while len(self._free) < load.workers:
            heapq.heappush(self._free, 0)
        while len(self._free) > load.workers:
            heapq.heappop(self._free)
        while self._next_ns < end_ns:
            self._serve(load, self._next_ns)
            self._next_ns += self._gap_ns(load)

    def _gap_ns(self, load: Load) -> int:
        return round(self._random.expovariate(load.rate) * SECOND_NS)

    def _serve(self, load: Load, arrival_ns: int) -> None:
        work = self._random.uniform(0.8, 1.2)
        times = {}
        for name, stage in load.stages.items():
            cpu, runqueue, blocked = (round(work * x * MILLISECOND_NS) for x in stage)
            times[name] = StageTime(cpu + runqueue + blocked, cpu, runqueue)
        begin_ns = max(arrival_ns, self._free[0])
        queue_ns = begin_ns - arrival_ns
        end_ns = begin_ns + sum(stage.wall_ns for stage in times.values())
        heapq.heapreplace(self._free, end_ns)
        times["queue"] = StageTime(queue_ns, 0, 0)
        event, detail = request(
            arrival_ns,
            times,
            model_id=MODEL.name_id if "forward" in times else 0,
            gc_ns=round(load.gc_milliseconds * MILLISECOND_NS),
            sizes=SIZES,
        )
        self._count += 1
        heapq.heappush(self._running, (end_ns, self._count, event, detail))

    def _samples(self, load: Load, busy_ns: int) -> Iterator[Sample]:
        now_ns = self.now_ns
        request_ns = self._add("request", busy_ns)
        python_ns = self._add("python", load.python_cores * SECOND_NS)
        native_ns = self._add("native", load.native_cores * SECOND_NS)
        waits = sum(stage.runqueue for stage in load.stages.values()) * MILLISECOND_NS
        yield ProcessSample(
            now_ns,
            0,
            cpu_user_ns=request_ns + python_ns + native_ns,
            cpu_system_ns=0.0,
            effective_cpus=load.cpus,
        )
        yield ThreadsSample(
            now_ns,
            0,
            runqueue_ns=self._add("runqueue", waits * load.rate),
            request_cpu_ns=request_ns,
            python_cpu_ns=python_ns,
            native_cpu_ns=native_ns,
        )
        yield PythonSample(
            now_ns,
            0,
            beats=self._add("beats", 10),
            late_beats=self._add("late", 10 * load.late_beats_ratio),
            gil_wait_ns=self._add("gil", load.late_beats_ratio * 0.05 * SECOND_NS),
            gc_pause_ns=self._add("gc", load.gc_share * SECOND_NS),
        )
        yield CgroupCpuSample(
            now_ns,
            0,
            inode=77.0,
            periods=self._add("periods", 10),
            throttled_periods=self._add("throttled", 10 * load.throttled_periods_ratio),
            throttled_ns=self._add("stopped", load.throttled_share * SECOND_NS),
            limit_cores=load.quota_cores,
        )
        if load.python_cores:
            yield BusyThreadSample(now_ns, THREAD.name_id, cpu_ns=python_ns)
        in_flight = len(self._running)
        oldest = min((event.arrival_ns for _, _, event, _ in self._running), default=now_ns)
        yield ServerSample(
            now_ns,
            SERVER.name_id,
            workers=float(load.workers),
            workers_busy=float(min(in_flight, load.workers)),
            queued=float(max(0, in_flight - load.workers)),
            in_flight=float(in_flight),
            oldest_age_ns=float(max(0, now_ns - oldest)),
        )
        yield MethodSample(now_ns, METHOD.name_id, in_flight=float(in_flight))

    def _add(self, counter: str, amount: float) -> float:
        self._totals[counter] = self._totals.get(counter, 0.0) + amount
        return self._totals[counter]


def request(
    arrival_ns: int,
    times: Mapping[str, StageTime],
    *,
    status: int = 0,
    call_type: int = UNARY,
    flags: int = FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED,
    method_id: int = METHOD.name_id,
    model_id: int = 0,
    gc_ns: int = 0,
    weight: float = 1.0,
    sizes: tuple[int | None, int | None] = (None, None),
) -> tuple[RequestEvent, RequestDetail]:
    """One finished request as the two records that the probe writes of it."""
    wall = {name: stage.wall_ns for name, stage in times.items()}
    outside = ("queue", "receive", "send")
    latency_ns = sum(wall.values())
    event = RequestEvent(
        call_type=call_type,
        status=status,
        flags=flags,
        method_id=method_id,
        model_id=model_id,
        server_id=SERVER.name_id,
        batch_size=1 if model_id else 0,
        forwards=1 if model_id else 0,
        arrival_ns=arrival_ns,
        queue_ns=wall.get("queue", 0),
        receive_ns=wall.get("receive", 0),
        handler_ns=sum(ns for name, ns in wall.items() if name not in outside),
        send_ns=wall.get("send", 0),
        preprocess_ns=wall.get("preprocess", 0),
        batch_wait_ns=wall.get("batch_wait", 0),
        forward_ns=wall.get("forward", 0),
        postprocess_ns=wall.get("postprocess", 0),
    )
    nothing = StageTime(0, 0, 0)
    detail = RequestDetail(
        call_type=call_type,
        status=status,
        method_id=method_id,
        model_id=model_id,
        batch_size=event.batch_size,
        weight=weight,
        arrival_ns=arrival_ns,
        latency_ns=latency_ns,
        gc_ns=gc_ns,
        request_bytes=sizes[0],
        response_bytes=sizes[1],
        voluntary_switches=0,
        involuntary_switches=0,
        stages=tuple(times.get(name, nothing) for name in STAGES),
    )
    return event, detail


def others(now_ns: int) -> Iterator[Record]:
    """What a load does not bring: other kinds of request, failures, streams, a device."""
    yield from (ROUTE, CHAT, TOKENISE)
    millisecond = {"handler": StageTime(MILLISECOND_NS, MILLISECOND_NS, 0)}
    for call_type, status in ((HTTP, 200), (HTTP, 404), (HTTP, 0), (HTTP_STREAM, 200)):
        yield from request(
            now_ns,
            millisecond,
            call_type=call_type,
            status=status,
            flags=FLAG_BEHAVIOUR_CALLED | FLAG_ASYNC,
            method_id=ROUTE.name_id,
        )
    yield from request(
        now_ns,
        {"handler": StageTime(60 * MILLISECOND_NS, 0, 0)},
        call_type=BIDI_STREAM,
        method_id=CHAT.name_id,
    )
    yield StreamEvent(
        BIDI_STREAM, CHAT.name_id, 5, 3, now_ns, 4 * MILLISECOND_NS, 36 * MILLISECOND_NS,
        gaps((7, 2)),
    )  # fmt: skip
    given_up, _ = request(
        now_ns,
        {"queue": StageTime(20 * MILLISECOND_NS, 0, 0)},
        status=GRPC_CODES.index("DEADLINE_EXCEEDED"),
        flags=0,
    )
    unreadable, _ = request(
        now_ns, {}, status=GRPC_CODES.index("INTERNAL"), flags=FLAG_DESERIALIZE_FAILED
    )
    yield from (given_up, unreadable)
    yield StageEvent(TOKENISE.name_id, METHOD.name_id, 7, now_ns, 800_000, 500_000)
    unfit = FORWARD_OUTSIDE | FORWARD_GRAD | FORWARD_TRAINING
    yield ForwardEvent(unfit, MODEL.name_id, 0, 8, 9, now_ns, 3 * MILLISECOND_NS)
    yield DeviceEvent(MODEL.name_id, 0, 8, now_ns, 400_000, 2 * MILLISECOND_NS)


def gaps(*counts: tuple[int, int]) -> tuple[int, ...]:
    """The gaps of a stream, by `(bucket, number of gaps)`."""
    given = dict(counts)
    return tuple(given.get(bucket, 0) for bucket in range(GAP_COUNTS))


def watch(pipeline: Pipeline, observations: Iterable[Observation]) -> list[Verdict]:
    """The verdicts that a pipeline gives of some observations."""
    verdicts = (pipeline.feed(observation) for observation in observations)
    return [verdict for verdict in verdicts if verdict is not None]


class Scene:
    """A service and the pipeline that watches it."""

    def __init__(self, service: Service | None = None) -> None:
        self.service = service or Service()
        self.pipeline = Pipeline()
        watch(self.pipeline, self.service.open())

    def run(self, load: Load, seconds: int) -> list[Verdict]:
        """The verdicts of some seconds of a load."""
        return watch(self.pipeline, self.service.run(load, seconds))


LEARNING_SECONDS = 20


@cache
def _known(load: Load) -> bytes:
    scene = Scene()
    scene.run(load, LEARNING_SECONDS)
    return pickle.dumps(scene)


def known(load: Load = HEALTHY) -> Scene:
    """A scene that has watched a load for 20 seconds."""
    scene: Scene = pickle.loads(_known(load))
    return scene


def gate(verdict: Verdict, label_type: str) -> str:
    """The gate at which a label failed; "found" for one that is active or was just found."""
    for ruled_out in verdict.ruled_out:
        if ruled_out.label.type == label_type:
            return ruled_out.gate
    return "found" if label_type in labels(verdict) else ""


def reason(verdict: Verdict, label_type: str) -> str:
    """Why a label was ruled out."""
    return next(r.reason for r in verdict.ruled_out if r.label.type == label_type)


def labels(verdict: Verdict) -> tuple[str, ...]:
    """The types that are active, the primary first."""
    return tuple(active.found.label.type for active in verdict.active)


def found(verdict: Verdict, label_type: str) -> Found:
    """The latest finding of an active label."""
    return next(a.found for a in verdict.active if a.found.label.type == label_type)
