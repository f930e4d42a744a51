from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import pytest
import torch
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

import pinchpoint
from pinchpoint.probe.asgi import MARK
from pinchpoint.probe.process import ProcessProbe
from pinchpoint.schema.events import (
    FLAG_ASYNC,
    FLAG_BEHAVIOUR_CALLED,
    FLAG_RESPONDED,
    RequestEvent,
    StreamEvent,
)
from pinchpoint.schema.samples import ServerSample
from pinchpoint.schema.terms import CALL_TYPES, STAGE_INDEX
from tests.support.rings import Contents, ring_with, the_ring
from tests.support.truth import REST_SECONDS, Messages, Resting, own_ns
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.integration

ANSWERED = FLAG_ASYNC | FLAG_BEHAVIOUR_CALLED | FLAG_RESPONDED
T = TypeVar("T")

BOTH_PARSERS = pytest.mark.parametrize("parser", ["h11", "httptools"])


class Served:
    """A running server. Connections are kept by nobody: each request has its own."""

    def __init__(self, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = port
        self._loop = loop

    def on_loop(self, function: Callable[[], T]) -> T:
        """What a function says on the loop; every request has come to its next wait by then."""

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(LIMIT_SECONDS)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_SECONDS)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def connect(self, head: str) -> socket.socket:
        """A connection on which the beginning of a request has been sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), LIMIT_SECONDS)
        connection.sendall(head.replace("\n", "\r\n").encode())
        return connection


class Server(uvicorn.Server):
    """One that tells its loop."""

    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)


@contextmanager
def serving(app: Any, parser: str = "h11") -> Iterator[Served]:
    """The application on a uvicorn of its own, in a thread of this process."""
    config = uvicorn.Config(app, http=parser, ws="none", log_config=None)
    server = Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        assert until(lambda: server.started)
        yield Served(listener.getsockname()[1], server.loop)
    finally:
        server.should_exit = True
        thread.join(LIMIT_SECONDS)
        listener.close()
        assert not thread.is_alive()


class Scorer(torch.nn.Module):
    """Twice its argument."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * 2


def requests_of(ring: Contents) -> Counter[tuple[str, int]]:
    return Counter((ring.text(event.method_id), event.status) for event in ring.requests())


def streams(ring: Contents) -> list[StreamEvent]:
    return [event for event in ring.events if isinstance(event, StreamEvent)]


def only(ring: Contents) -> RequestEvent:
    (request,) = ring.requests()
    return request


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


# What is recorded


def fastapi_app() -> FastAPI:
    app = FastAPI()
    router = APIRouter()
    sub = FastAPI()

    @app.get("/items/{item_id}")
    def item(item_id: int) -> int:
        return item_id

    @app.post("/predict")
    async def predict(rows: list[float]) -> list[float]:
        return rows

    @app.get("/refused")
    def refused() -> None:
        raise HTTPException(503)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("broken on purpose")

    @app.get("/health")
    def health() -> str:
        return "well"

    @router.put("/things/{thing}")
    def thing(thing: str) -> str:
        return thing

    @sub.get("/leaf/{leaf}")
    async def leaf(leaf: str, tenant: str = "") -> str:
        return leaf + tenant

    app.include_router(router, prefix="/v1")
    app.mount("/tenants/{tenant}", sub)
    return app


@BOTH_PARSERS
def test_every_answer_is_recorded_once_under_its_route(
    probe: ProcessProbe, ring_dir: Path, parser: str
) -> None:
    """Whatever the status, by the template of the route and never by what the client wrote."""
    asked = (
        ("GET", "/items/3", None, 200, "GET /items/{item_id}"),
        ("GET", "/items/x", None, 422, "GET /items/{item_id}"),
        ("DELETE", "/items/4", None, 405, "DELETE /items/{item_id}"),
        ("POST", "/predict", [1.0, 2.0], 200, "POST /predict"),
        ("POST", "/predict", {"no": "list"}, 422, "POST /predict"),
        ("GET", "/refused", None, 503, "GET /refused"),
        ("GET", "/broken", None, 500, "GET /broken"),
        ("PUT", "/v1/things/a", None, 200, "PUT /v1/things/{thing}"),
        ("GET", "/tenants/one/leaf/two", None, 200, "GET /tenants/{tenant}/leaf/{leaf}"),
        ("GET", "/tenants/one/nowhere", None, 404, "GET /tenants/{tenant}/{path}"),
        ("GET", "/nowhere?or=here", None, 404, "GET _OTHER"),
        ("PURGE", "/nowhere", None, 404, "_OTHER _OTHER"),
        ("GET", "/health", None, 200, None),
    )
    with serving(fastapi_app(), parser) as served:
        for method, path, body, status, _ in asked:
            assert served.ask(method, path, body)[0] == status
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == len(asked) - 1)
    assert requests_of(ring) == Counter(
        (name, status) for _, _, _, status, name in asked if name is not None
    )
    assert {CALL_TYPES[event.call_type] for event in ring.requests()} == {"http"}
    assert {event.flags for event in ring.requests()} == {ANSWERED}
    assert {ring.text(event.server_id) for event in ring.requests()} == {"http"}
    assert (probe.http.seen, probe.http.part.errors) == (len(asked), 0)


@BOTH_PARSERS
def test_a_forward_belongs_to_its_request_on_the_loop_and_on_a_thread(
    probe: ProcessProbe, ring_dir: Path, parser: str
) -> None:
    """Many at once: each request has the batch that it asked for."""
    model = Scorer()
    app = FastAPI()

    def score(number: int) -> float:
        return float(model(torch.ones(number, 2)).sum())

    @app.get("/sync/{number}")
    def sync(number: int) -> float:
        return score(number)

    @app.get("/async/{number}")
    async def on_loop(number: int) -> float:
        return score(number)

    @app.get("/by-hand/{number}")
    async def by_hand(number: int) -> float:
        return await run_in_threadpool(score, number)

    paths = [(kind, n) for kind in ("sync", "async", "by-hand") for n in range(1, 21)]
    with serving(app, parser) as served, ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda path: served.ask("GET", f"/{path[0]}/{path[1]}"), paths))
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == len(paths))
    assert answers == [(200, b"%.1f" % (number * 4)) for _, number in paths]
    for kind in ("sync", "async", "by-hand"):
        found = ring.requests(f"GET /{kind}/{{number}}")
        assert sorted(event.batch_size for event in found) == list(range(1, 21))
        assert {event.forwards for event in found} == {1}
        assert {ring.text(event.model_id) for event in found} == {"Scorer"}
        for event in found:
            parts_ns = event.preprocess_ns + event.forward_ns + event.postprocess_ns
            assert parts_ns == event.handler_ns
    assert {event.flags & 1 for event in ring.forwards()} == {0}  # none was outside of requests


def test_waits_for_a_thread_are_the_queue(probe: ProcessProbe, ring_dir: Path) -> None:
    """Four requests for one thread, the first of which holds it until all have asked for it."""
    resting = Resting()
    asked_ns: dict[int, int] = {}
    order: list[int] = []
    app = FastAPI()

    @app.get("/one")
    async def one() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1

    async def asking(number: int) -> None:
        asked_ns[number] = time.monotonic_ns()

    @app.get("/rest/{number}", dependencies=[Depends(asking)])
    def rest(number: int) -> None:
        order.append(number)
        resting()

    def ask(number: int) -> int:
        begin_ns = time.monotonic_ns()
        assert served.ask("GET", f"/rest/{number}")[0] == 200
        return time.monotonic_ns() - begin_ns

    with serving(app) as served, ThreadPoolExecutor(4) as clients:
        assert served.ask("GET", "/one")[0] == 200
        asked = [clients.submit(ask, number) for number in range(4)]
        assert until(lambda: len(asked_ns) == 4)
        served.on_loop(lambda: None)
        resting.let_go()
        seen_ns = [each.result(LIMIT_SECONDS) for each in asked]
        ring = ring_with(ring_dir, lambda found: len(found.details) == 5)
        assert until(lambda: [s.workers for s in the_ring(ring_dir).of(ServerSample)][-1:] == [1])

    details = {detail.arrival_ns: detail for detail in ring.details}
    four = sorted(ring.requests("GET /rest/{number}"), key=lambda r: r.arrival_ns + r.latency_ns)
    free_ns = resting.let_go_ns
    for request, number, span in zip(four, order, resting.spans, strict=True):
        begin_ns, end_ns = span
        shortest_ns, longest_ns = free_ns - resting.let_go_ns, begin_ns - asked_ns[number]
        stages = details[request.arrival_ns].stages
        for wait_ns in (request.queue_ns, stages[STAGE_INDEX["queue"]].wall_ns):
            assert shortest_ns <= wait_ns <= longest_ns
        assert end_ns - begin_ns <= request.handler_ns <= seen_ns[number] - shortest_ns
        free_ns = end_ns


def test_a_request_is_with_the_thread_that_runs_its_endpoint(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """While it runs there, and not when it waits or is over."""
    entered, go_on = threading.Event(), threading.Event()
    app = FastAPI()
    idents: list[int] = []

    def dependency() -> int:
        return threading.get_ident()

    @app.get("/stand")
    def stand(_ident: int = Depends(dependency)) -> None:
        idents.append(threading.get_ident())
        entered.set()
        assert go_on.wait(LIMIT_SECONDS)

    with serving(app) as served, ThreadPoolExecutor(1) as client:
        asked = client.submit(served.ask, "GET", "/stand")
        assert entered.wait(LIMIT_SECONDS)
        (call,) = probe._active
        assert call.thread is not None
        assert [call.thread.ident] == idents
        assert call.thread.call is call
        go_on.set()
        assert asked.result()[0] == 200
        assert until(lambda: not probe._active)
        assert call.thread is None


def test_the_stages_of_a_sampled_request_add_up_to_its_latency(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """A wait on the loop is blocked time, although other requests have the loop meanwhile."""
    app = FastAPI()
    rested_ns: list[int] = []

    @app.post("/rest")
    async def rest(number: int) -> bytes:
        begin_ns = time.monotonic_ns()
        await asyncio.sleep(REST_SECONDS)
        rested_ns.append(time.monotonic_ns() - begin_ns)
        return b"%d" % number

    with serving(app) as served:
        busy_ns, begin_ns = -served.on_loop(own_ns), time.monotonic_ns()
        assert served.ask("POST", "/rest?number=1234567", "12345") == (200, b'"1234567"')
        ring = ring_with(ring_dir, lambda found: found.details)
        busy_ns, all_ns = busy_ns + served.on_loop(own_ns), time.monotonic_ns() - begin_ns
    (detail,) = ring.details
    handler = detail.stages[STAGE_INDEX["handler"]]
    assert rested_ns[0] - busy_ns <= handler.blocked_ns <= all_ns
    assert rested_ns[0] <= sum(stage.wall_ns for stage in detail.stages) <= all_ns
    assert rested_ns[0] <= detail.latency_ns == only(ring).latency_ns <= all_ns
    assert (detail.request_bytes, detail.response_bytes) == (7, 9)


def test_work_on_a_thread_is_the_requests(probe: ProcessProbe, ring_dir: Path) -> None:
    """The CPU time of its worker, and none of what the loop's thread does meanwhile."""
    app = FastAPI()

    @app.get("/work")
    def work() -> None:
        begin = time.thread_time()
        while time.thread_time() < begin + 0.05:
            pass

    with serving(app) as served:
        assert served.ask("GET", "/work")[0] == 200
        ring = ring_with(ring_dir, lambda found: found.details)
    (detail,) = ring.details
    handler = detail.stages[STAGE_INDEX["handler"]]
    assert 50_000_000 <= handler.cpu_ns <= handler.wall_ns
    assert detail.stages[STAGE_INDEX["queue"]].cpu_ns < 50_000_000


def test_the_wait_for_a_body_is_receive(probe: ProcessProbe, ring_dir: Path) -> None:
    """A client that stands still in the middle of its body makes nobody's handler slow."""
    reading = threading.Event()
    pieces_ns: list[int] = []

    async def upload(request: Request) -> Response:
        begin_ns, size = time.monotonic_ns(), 0
        async for chunk in request.stream():
            pieces_ns.append(time.monotonic_ns() - begin_ns)
            size += len(chunk)
            reading.set()
            begin_ns = time.monotonic_ns()
        return PlainTextResponse(str(size))

    pause = threading.Event()
    with serving(Starlette(routes=[Route("/upload", upload, methods=["POST"])])) as served:
        begin_ns = time.monotonic_ns()
        with served.connect(
            "POST /upload HTTP/1.1\nhost: x\ncontent-length: 10\n\n12345"
        ) as client:
            assert reading.wait(LIMIT_SECONDS)
            served.on_loop(lambda: None)
            paused_ns = time.monotonic_ns()
            pause.wait(REST_SECONDS)
            paused_ns = time.monotonic_ns() - paused_ns
            client.sendall(b"67890")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        ring = ring_with(ring_dir, lambda found: found.details)
        all_ns = time.monotonic_ns() - begin_ns
    (detail,), request = ring.details, only(ring)
    for receive_ns in (request.receive_ns, detail.stages[STAGE_INDEX["receive"]].wall_ns):
        assert paused_ns <= receive_ns <= sum(pieces_ns)
    assert request.handler_ns <= all_ns - paused_ns
    assert detail.request_bytes == 10


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("POST / HTTP/1.1\ncontent-length: 3\n\nabc", 3),
        ("GET / HTTP/1.1\n\n", 0),
        ("POST / HTTP/1.1\ntransfer-encoding: chunked\n\n0\n\n", None),
    ],
)
def test_the_size_of_a_body_that_nobody_reads_is_what_its_client_announced(
    probe: ProcessProbe, ring_dir: Path, head: str, expected: int | None
) -> None:
    """Or unknown."""
    app = Starlette(routes=[Route("/", hello, methods=["GET", "POST"])])
    with serving(app) as served:
        with served.connect(head.replace("\n", "\nhost: x\n", 1)) as client:
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        ring = ring_with(ring_dir, lambda found: found.details)
    assert [detail.request_bytes for detail in ring.details] == [expected]


# Streams


def gated(chunks: int, gate: threading.Semaphore) -> Callable[[], AsyncIterator[bytes]]:
    """A generator whose every chunk but the first waits to be let go."""

    async def generate() -> AsyncIterator[bytes]:
        for number in range(chunks):
            if number:
                await asyncio.get_running_loop().run_in_executor(None, gate.acquire)
            yield b"data: %d\n\n" % number

    return generate


@BOTH_PARSERS
def test_events_of_a_server_are_a_stream(probe: ProcessProbe, ring_dir: Path, parser: str) -> None:
    """Server-sent events: every chunk counted once, and the time to the first one."""
    gate = threading.Semaphore(0)
    generate = gated(4, gate)
    app = FastAPI()

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(generate(), media_type="text/event-stream")

    with serving(app, parser) as served:
        with served.connect("GET /events HTTP/1.1\nhost: x\n\n") as client:
            response = http.client.HTTPResponse(client)
            response.begin()
            for number in range(4):
                if number:
                    (call,) = probe._active
                    assert call.task is not None
                    gate.release()
                assert response.readline() == b"data: %d\n" % number
                assert response.readline() == b"\n"
            assert response.read() == b""
            response.close()
        ring = ring_with(ring_dir, lambda found: found.requests())
    request = only(ring)
    assert CALL_TYPES[request.call_type] == "http_stream"
    assert (ring.text(request.method_id), request.status) == ("GET /events", 200)
    found = streams(ring)
    assert {ring.text(event.method_id) for event in found} == {"GET /events"}
    assert {CALL_TYPES[event.call_type] for event in found} == {"http_stream"}
    assert sum(event.sent for event in found) == 4
    assert sum(sum(event.gaps) for event in found) == 3
    first_ns = sum(event.first_message_ns for event in found)
    gaps_ns = sum(event.gap_ns for event in found)
    assert 0 < first_ns < request.latency_ns
    assert first_ns + gaps_ns <= request.latency_ns
    # The handler is the whole of its stream, not the making of the response.
    assert request.handler_ns > gaps_ns
    assert [detail.response_bytes for detail in ring.details] == [36]


def test_gaps_of_a_stream_are_those_of_its_generator(probe: ProcessProbe, ring_dir: Path) -> None:
    """One of plain functions, on the threads of the pool."""
    rest = threading.Event()
    messages = Messages()
    generated_ns: list[int] = []

    def generate() -> Iterator[bytes]:
        begin_ns = time.monotonic_ns()
        for _ in range(3):
            messages.give()
            yield b"x\n"
            messages.taken()
            rest.wait(REST_SECONDS)
        generated_ns.append(time.monotonic_ns() - begin_ns)

    async def stream(_request: Request) -> Response:
        return StreamingResponse(generate())

    with serving(Starlette(routes=[Route("/stream", stream)])) as served:
        begin_ns = time.monotonic_ns()
        assert served.ask("GET", "/stream") == (200, b"x\n" * 3)
        ring = ring_with(ring_dir, lambda found: found.requests())
        all_ns = time.monotonic_ns() - begin_ns
    gap_ns = sum(event.gap_ns for event in streams(ring))
    assert messages.shortest_whole_ns() <= gap_ns <= messages.longest_whole_ns()
    request = only(ring)
    assert generated_ns[0] <= request.latency_ns <= all_ns
    assert request.queue_ns == 0  # what it waits after its response has begun is its own


def test_a_body_in_one_piece_is_no_stream(probe: ProcessProbe, ring_dir: Path) -> None:
    """However it was made, and whatever layer has cut off an empty end."""

    async def one() -> AsyncIterator[bytes]:
        yield b"one"

    async def nothing() -> AsyncIterator[bytes]:
        for never in list[bytes]():
            yield never

    async def stream(request: Request) -> Response:
        return StreamingResponse(one() if request.url.path == "/one" else nothing())

    async def add_nothing(request: Request, call_next: Any) -> Response:
        answer: Response = await call_next(request)
        return answer

    app = Starlette(
        routes=[Route("/one", stream), Route("/nothing", stream), Route("/plain", hello)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=add_nothing)],
    )
    with serving(app) as served:
        assert [served.ask("GET", path)[1] for path in ("/one", "/nothing", "/plain")] == [
            b"one",
            b"",
            b"hello",
        ]
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 3)
    assert {CALL_TYPES[event.call_type] for event in ring.requests()} == {"http"}
    assert requests_of(ring) == Counter(
        {("GET /one", 200): 1, ("GET /nothing", 200): 1, ("GET /plain", 200): 1}
    )
    assert streams(ring) == []


@BOTH_PARSERS
def test_a_stream_that_its_client_leaves_is_recorded_as_far_as_it_came(
    probe: ProcessProbe, ring_dir: Path, parser: str
) -> None:
    """With its status and duration, and nothing is left in flight."""
    ended = threading.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async def stream(_request: Request) -> Response:
        return StreamingResponse(endless())

    with serving(Starlette(routes=[Route("/stream", stream)]), parser) as served:
        with served.connect("GET /stream HTTP/1.1\nhost: x\n\n") as client:
            assert until(lambda: b"\r\nx\r\n1\r\nx\r\n" in client.recv(4096, socket.MSG_PEEK))
        assert ended.wait(LIMIT_SECONDS)
        ring = ring_with(ring_dir, lambda found: found.requests())
        assert until(lambda: not probe._active)
    request = only(ring)
    assert (CALL_TYPES[request.call_type], request.status) == ("http_stream", 200)
    assert request.handler_ns > 10_000_000
    assert sum(event.sent for event in streams(ring)) >= 2


# Ends without an answer


@BOTH_PARSERS
def test_a_client_that_leaves_before_the_answer_has_got_none(
    probe: ProcessProbe, ring_dir: Path, parser: str
) -> None:
    """In the middle of its own body."""
    reading = threading.Event()

    async def upload(request: Request) -> Response:
        async for _ in request.stream():
            reading.set()
        raise AssertionError("the body has no end")

    app = Starlette(routes=[Route("/upload", upload, methods=["POST"])])
    with serving(app, parser) as served:
        with served.connect("POST /upload HTTP/1.1\nhost: x\ncontent-length: 10\n\n12345"):
            assert reading.wait(LIMIT_SECONDS)
        ring = ring_with(ring_dir, lambda found: found.requests())
    request = only(ring)
    assert (request.status, request.flags & FLAG_RESPONDED) == (0, 0)
    assert ring.text(request.method_id) == "POST /upload"


def test_a_cancelled_request_has_no_status(probe: ProcessProbe, ring_dir: Path) -> None:
    """Its task is cancelled, and the error is the server's again."""

    async def forever(_request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def cancel() -> None:
        app = Starlette(routes=[Route("/forever", forever)])
        task = asyncio.create_task(call_once(app, "/forever"))
        await asyncio.sleep(0)
        while not probe._active:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert requests_of(the_ring(ring_dir)) == Counter({("GET /forever", 0): 1})
    assert not probe._active


@BOTH_PARSERS
@pytest.mark.parametrize("how", ["raises", "returns"])
def test_what_the_server_answers_for_an_application_is_recorded(
    probe: ProcessProbe, ring_dir: Path, parser: str, how: str
) -> None:
    """An application that is no framework's; its paths are its clients' and no names of ours."""

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        assert scope["type"] == "http"
        if how == "raises":
            raise RuntimeError("broken on purpose")

    with serving(app, parser) as served:
        for number in range(3):
            assert served.ask("GET", f"/any/{number}")[0] == 500
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 3)
    assert requests_of(ring) == Counter({("GET _OTHER", 500): 3})
    assert not [name.text for name in ring.names if "any" in name.text]


# Where it attaches


async def call_once(app: Any, path: str, **more: Any) -> list[Any]:
    """What an application sends for one request of a server that is none we know."""
    sent: list[Any] = []

    requests = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        for request in requests:
            return request
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        **more,
    }
    await app(scope, receive, send)
    return sent


def test_starlette_is_seen_under_every_server(probe: ProcessProbe, ring_dir: Path) -> None:
    """Once, whatever lies between, layers that copy the scope included."""
    inner = Starlette(routes=[Mount("/inner", Starlette(routes=[Route("/hello", hello)]))])

    async def copies(scope: Any, receive: Any, send: Any) -> None:
        await inner(dict(scope), receive, send)

    app = Starlette(routes=[Mount("/outer", copies)])
    sent = asyncio.run(call_once(app, "/outer/inner/hello"))
    assert sent[1]["body"] == b"hello"
    assert requests_of(the_ring(ring_dir)) == Counter({("GET /outer/inner/hello", 200): 1})


def test_any_application_can_be_wrapped_by_hand(probe: ProcessProbe, ring_dir: Path) -> None:
    """It stays a coroutine function, and under uvicorn it is seen once."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

    wrapped = pinchpoint.asgi(app)
    assert asyncio.iscoroutinefunction(wrapped)
    asyncio.run(call_once(wrapped, "/"))
    with serving(wrapped) as served:
        assert served.ask("GET", "/")[0] == 204
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 2)
    assert requests_of(ring) == Counter({("GET _OTHER", 204): 2})


def test_nothing_is_wrapped_by_hand_when_the_probe_is_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PINCHPOINT_DISABLE", "1")
    assert pinchpoint.asgi(hello) is hello


def test_two_applications_of_a_process_share_a_ring(probe: ProcessProbe, ring_dir: Path) -> None:
    """Each on its own loop, and each loop is watched."""
    one = Starlette(routes=[Route("/one", hello)])
    two = Starlette(routes=[Route("/two", hello)])
    with serving(one) as first, serving(two) as second:
        for _ in range(3):
            assert first.ask("GET", "/one")[0] == second.ask("GET", "/two")[0] == 200
        ring = ring_with(ring_dir, lambda found: len(found.requests()) == 6)
        assert until(lambda: len(probe._loops.threads()) == 2)
    assert requests_of(ring) == Counter({("GET /one", 200): 3, ("GET /two", 200): 3})


def test_other_protocols_pass_through_untouched(probe: ProcessProbe, ring_dir: Path) -> None:
    """The very scope, and the server's own `receive` and `send`."""
    seen: list[Any] = []

    async def app(*args: Any) -> None:
        seen.append(args)

    async def call(scope: Any) -> None:
        ends = object(), object()
        await pinchpoint.asgi(app)(scope, *ends)
        assert seen.pop() == (scope, *ends)

    for kind in ("websocket", "lifespan"):
        scope = {"type": kind, "path": "/"}
        asyncio.run(call(scope))
        assert scope == {"type": kind, "path": "/"}
    assert the_ring(ring_dir).requests() == []


def test_a_websocket_of_starlette_is_not_disturbed(probe: ProcessProbe) -> None:
    """It is not seen either."""

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    messages = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    app = Starlette(routes=[WebSocketRoute("/echo", echo)])
    scope = {"type": "websocket", "path": "/echo", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert [m["type"].rpartition(".")[2] for m in sent] == ["accept", "send", "close"]
    assert sent[1]["text"] == "hi"
    assert probe.http.seen == 0


def test_what_follows_the_response_is_not_the_requests(probe: ProcessProbe, ring_dir: Path) -> None:
    """A background task runs a model: the request was over before."""
    model = Scorer()
    over = threading.Event()

    def later() -> None:
        model(torch.ones(3, 1))
        over.set()

    async def answer(_request: Request) -> Response:
        return PlainTextResponse("done", background=BackgroundTask(later))

    with serving(Starlette(routes=[Route("/", answer)])) as served:
        assert served.ask("GET", "/")[0] == 200
        assert over.wait(LIMIT_SECONDS)
        ring = ring_with(ring_dir, lambda found: found.forwards())
    assert [event.forwards for event in ring.requests()] == [0]
    assert [event.flags & 1 for event in ring.forwards()] == [1]


def test_clients_cannot_make_names(probe: ProcessProbe, ring_dir: Path) -> None:
    """Neither with paths nor with methods."""

    async def ask(app: Any) -> None:
        for number in range(300):
            await call_once(app, f"/path/{number}", method=f"METHOD{number}")
            await call_once(app, f"/items/{number}", method=f"METHOD{number}")

    asyncio.run(ask(Starlette(routes=[Route("/items/{item}", hello)])))
    ring = the_ring(ring_dir)
    assert len(ring.requests()) == 600
    assert {ring.text(event.method_id) for event in ring.requests()} == {"_OTHER _OTHER"}
    assert len(probe.http.routes.known) == len(probe.http.routes.unmatched) == 0


def test_a_request_is_left_out_if_the_probe_was_off_for_a_part_of_it(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """The kill switch, thrown and taken back in the middle of a request."""

    async def flips(_request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            probe.http.part.enabled = False
            yield b"two"
            probe.http.part.enabled = True

        return StreamingResponse(body())

    app = Starlette(routes=[Route("/flips", flips), Route("/hello", hello)])
    sent = asyncio.run(call_once(app, "/flips"))
    assert [message.get("body") for message in sent] == [None, b"one", b"two", b""]
    asyncio.run(call_once(app, "/hello"))
    assert requests_of(the_ring(ring_dir)) == Counter({("GET /hello", 200): 1})
    assert not probe._active


def test_uninstalling_puts_everything_back(probe: ProcessProbe, ring_dir: Path) -> None:
    """A server that is running serves on, without us."""
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, proxy_headers=False, lifespan="off", log_config=None)
    config.load()
    assert config.loaded_app is not app
    patched = [
        Starlette.__call__,
        Route.handle,
        Mount.handle,
        anyio.to_thread.run_sync,
        uvicorn.Config.load,
    ]
    measured = config.loaded_app
    pinchpoint.uninstall()
    restored = [
        Starlette.__call__,
        Route.handle,
        Mount.handle,
        anyio.to_thread.run_sync,
        uvicorn.Config.load,
    ]
    assert all(now is not then for now, then in zip(restored, patched, strict=True))
    assert not [function for function in restored if "pinchpoint" in function.__module__]
    assert config.loaded_app is app
    asyncio.run(call_once(measured, "/"))  # whoever has kept it
    assert [MARK in scope for scope in scopes] == [False]
