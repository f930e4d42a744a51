"""A serving process as an agent sees it: a real ring, filled as the probe fills it.

Requests come at random (seeded) times, wait for one of the workers, first come first served,
and run one forward each. What every second has besides are sampled requests, layers of sampled
forwards, looks at threads, and the samplers' readings (`readings`).
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from struct import Struct

from bench.agent.readings import Readings
from pinchpoint.probe.recorder import DETAILS_PER_SECOND
from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema import wire
from pinchpoint.schema.events import FLAG_BEHAVIOUR_CALLED, FLAG_RESPONDED
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.terms import CATEGORY_INDEX, STAGE_INDEX, STAGES, UNARY

SECOND_NS = 1_000_000_000
LOOKS_PER_SECOND = 5
LAYER_SAMPLES_PER_SECOND = 2

RECEIVE_NS, PREPROCESS_NS, FORWARD_NS, POSTPROCESS_NS, SEND_NS = (
    30_000,
    900_000,
    2_200_000,
    400_000,
    40_000,
)
"""Mean times of one request: eight workers are busy 45 % of the time at 1,000 requests/s."""

SPREAD = 0.3
"""Standard deviation of the logarithm of a request's times."""

_DRAWS = 8191
"""Random numbers are drawn once: a prime number of them, so that no two of their uses stay in
step."""


@dataclass(frozen=True)
class Load:
    """What the serving process does.

    Attributes:
        per_second: requests.
        workers: requests that are served at once.
        methods: how many different methods are called, in turns.
        models: how many different models run, in turns.
        layers: of each model.
        stages: different stages that the server's code names; one pass a request, if any.
        codes: different gRPC codes that requests end with, in turns; 1 for OK only.
    """

    per_second: int = 1_000
    workers: int = 8
    methods: int = 1
    models: int = 1
    layers: int = 12
    stages: int = 0
    codes: int = 1


FULL_CAPTURE = Load(stages=1)


class Traffic:
    """Fills a ring.

    Args:
        ring: a new one.
        load: what is done.
        start_ns: when the first second begins.

    Attributes:
        preprocess: times the usual preprocessing, of the requests that end from now on.
        requests: written so far.
        records: written so far, names left out.
    """

    def __init__(self, ring: RingWriter, load: Load, start_ns: int) -> None:
        self.preprocess = 1.0
        self.requests = 0
        self.records = 0
        self._ring = ring
        self._load = load
        chance = random.Random(1)
        mean_gap_ns = SECOND_NS / load.per_second
        self._gaps_ns = [int(chance.expovariate(1 / mean_gap_ns)) for _ in range(_DRAWS)]
        self._factors = [chance.lognormvariate(-SPREAD * SPREAD / 2, SPREAD) for _ in range(_DRAWS)]
        self._arrival_ns = self._second_ns = self._look_ns = start_ns
        self._free_ns = [start_ns] * load.workers
        self._drawn = 0
        self._running: list[tuple[int, int, int, int]] = []
        intern = ring.intern
        self._methods = [
            intern(NameKind.METHOD, f"/inference.Service{n}/Infer", UNARY)
            for n in range(load.methods)
        ]
        self._models = [intern(NameKind.MODEL, f"Model{n}") for n in range(load.models)]
        self._layers = [intern(NameKind.LAYER, f"layer{n}.conv") for n in range(load.layers)]
        self._stages = [intern(NameKind.STAGE, f"stage{n}") for n in range(load.stages)]
        self._device = intern(NameKind.DEVICE, "cpu")
        self._server = intern(NameKind.SERVER, "grpc")
        self._location = intern(NameKind.LOCATION, "server.py:41 prepare")
        self._readings = Readings(ring, self._methods, self._server, load.workers)

    def advance(self, until_ns: int) -> None:
        """Write everything that happens before `until_ns`."""
        while self._second_ns < until_ns:
            next_ns = min(until_ns, self._second_ns + SECOND_NS)
            self._serve(next_ns)
            while self._look_ns < next_ns:
                self._look(self._look_ns)
                self._look_ns += SECOND_NS // LOOKS_PER_SECOND
            if next_ns < self._second_ns + SECOND_NS:
                return
            self._second_ns = next_ns
            self._layers_of_samples(next_ns)
            self.records += self._readings.write(next_ns, len(self._running))
            self._ring.refresh_anchor()

    def _serve(self, until_ns: int) -> None:
        """Let requests come until then, and write those that have ended."""
        free_ns, running = self._free_ns, self._running
        while self._arrival_ns < until_ns:
            drawn = self._drawn = self._drawn + 1
            factor = self._factors[drawn % _DRAWS]
            preprocess_ns = int(PREPROCESS_NS * self.preprocess * factor)
            rest_ns = int((RECEIVE_NS + FORWARD_NS + POSTPROCESS_NS + SEND_NS) * factor)
            arrival_ns = self._arrival_ns
            begin_ns = max(arrival_ns, free_ns[0])
            end_ns = begin_ns + preprocess_ns + rest_ns
            heapq.heapreplace(free_ns, end_ns)
            heapq.heappush(running, (end_ns, arrival_ns, begin_ns, drawn))
            self._arrival_ns += self._gaps_ns[(drawn * 7) % _DRAWS]
        while running and running[0][0] <= until_ns:
            _, arrival_ns, begin_ns, drawn = heapq.heappop(running)
            self._finish(arrival_ns, begin_ns - arrival_ns, drawn)

    def _finish(self, arrival_ns: int, queue_ns: int, drawn: int) -> None:
        load, factor = self._load, self._factors[drawn % _DRAWS]
        receive_ns, preprocess_ns, forward_ns, postprocess_ns, send_ns = (
            int(RECEIVE_NS * factor),
            int(PREPROCESS_NS * self.preprocess * factor),
            int(FORWARD_NS * factor),
            int(POSTPROCESS_NS * factor),
            int(SEND_NS * factor),
        )
        handler_ns = preprocess_ns + forward_ns + postprocess_ns
        method = self._methods[drawn % load.methods]
        model = self._models[drawn % load.models]
        forward_at_ns = arrival_ns + queue_ns + receive_ns + preprocess_ns
        thread = drawn % load.workers
        self._event(
            wire.FORWARD, wire.KIND_FORWARD, 0, model, self._device, 1, thread, forward_at_ns,
            forward_ns,
        )  # fmt: skip
        if load.stages:
            stage = self._stages[drawn % load.stages]
            self._event(
                wire.STAGE, wire.KIND_STAGE, 0, stage, method, thread, arrival_ns + queue_ns,
                preprocess_ns, preprocess_ns,
            )  # fmt: skip
        self._event(
            wire.REQUEST, wire.KIND_REQUEST, UNARY, drawn // load.methods % load.codes,
            FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED, method, model, self._server, 1, 1, arrival_ns,
            queue_ns, receive_ns, handler_ns, send_ns, preprocess_ns, 0, forward_ns, postprocess_ns,
        )  # fmt: skip
        self.requests += 1
        every = max(1, load.per_second // DETAILS_PER_SECOND)
        if drawn % every == 0:
            walls = dict.fromkeys(STAGES, 0)
            walls |= {
                "queue": queue_ns, "receive": receive_ns, "preprocess": preprocess_ns,
                "forward": forward_ns, "postprocess": postprocess_ns, "send": send_ns,
            }  # fmt: skip
            self._detail(method, model, float(every), arrival_ns, walls)

    def _detail(
        self, method: int, model: int, weight: float, arrival_ns: int, walls_ns: dict[str, int]
    ) -> None:
        """A sampled request whose work is CPU and whose waits are not."""
        times: list[int] = []
        for stage, wall_ns in walls_ns.items():
            busy = stage != "queue"
            times += (wall_ns, wall_ns * 9 // 10 if busy else 0, wall_ns // 50 if busy else 0)
        ring = self._ring
        sequence = ring.claim_detail()
        wire.DETAIL.pack_into(
            ring.buffer,
            ring.detail_offset + ((sequence - 1) & ring.detail_mask) * wire.DETAIL_BYTES,
            sequence, wire.KIND_DETAIL, UNARY, 0, FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED, method,
            model, 1, weight, arrival_ns, sum(walls_ns.values()), 0, 600, 4_000, 3, 1, 0, 0, *times,
            sequence,
        )  # fmt: skip
        self.records += 1

    def _look(self, now_ns: int) -> None:
        """Where the requests that are being served are."""
        category, stage = CATEGORY_INDEX["torch"], STAGE_INDEX["forward"]
        for thread, (*_, begin_ns, drawn) in enumerate(self._running):
            if begin_ns <= now_ns:
                method = self._methods[drawn % self._load.methods]
                self._event(
                    wire.STACK, wire.KIND_STACK, category, stage, thread, method, self._location,
                    now_ns,
                )  # fmt: skip

    def _layers_of_samples(self, now_ns: int) -> None:
        """The layers of the last second's sampled forwards."""
        for sample in range(LAYER_SAMPLES_PER_SECOND):
            model = self._models[(self._drawn + sample) % self._load.models]
            for layer in self._layers:
                cpu_ns = FORWARD_NS // len(self._layers)
                self._event(
                    wire.LAYER, wire.KIND_LAYER, 0, model, layer, 1, self._drawn + sample, now_ns,
                    cpu_ns, cpu_ns,
                )  # fmt: skip

    def _event(self, layout: Struct, kind: int, *values: int) -> None:
        ring = self._ring
        sequence = ring.claim_event()
        layout.pack_into(
            ring.buffer,
            ring.event_offset + ((sequence - 1) & ring.event_mask) * wire.EVENT_BYTES,
            sequence,
            kind,
            *values,
            sequence,
        )
        self.records += 1
