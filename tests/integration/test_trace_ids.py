from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pinchpoint.probe.process import ProcessProbe
from tests.support.aio_servers import serving_aio
from tests.support.rings import ring_with
from tests.support.servers import serving, unary
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.integration

TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736
PARENT = f"00-{TRACE:032x}-00f067aa0ba902b7-01"
METADATA = (("other", "x"), ("traceparent", PARENT))


def echo(request: bytes, _context: Any) -> bytes:
    return request


async def echo_aio(request: bytes, _context: Any) -> bytes:
    return request


async def fail_aio(_request: bytes, _context: Any) -> bytes:
    raise RuntimeError


def traces(ring_dir: Path, requests: int) -> list[int]:
    """The trace ids of the sampled requests: with so few, of all."""
    ring = ring_with(ring_dir, lambda found: len(found.details) == requests)
    return [detail.trace_id for detail in ring.details]


def test_a_sync_rpc_carries_its_trace_id(probe: ProcessProbe, ring_dir: Path) -> None:
    """Of its own metadata; one that brings none has none."""
    with serving({"Echo": unary(echo)}) as served:
        served.call("Echo")
        served.call("Echo", metadata=METADATA)
        assert traces(ring_dir, 2) == [0, TRACE]


def test_an_aio_rpc_carries_its_trace_id(probe: ProcessProbe, ring_dir: Path) -> None:
    """Whether it ends well or not."""
    with serving_aio({"Echo": unary(echo_aio), "Fail": unary(fail_aio)}) as served:
        served.call("Echo")
        served.call("Echo", metadata=METADATA)
        served.code("Fail", metadata=METADATA)
        assert traces(ring_dir, 3) == [0, TRACE, TRACE]


def test_an_http_request_carries_its_trace_id(probe: ProcessProbe, ring_dir: Path) -> None:
    """Header names have no case in HTTP."""

    async def hello(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    with listening(Starlette(routes=[Route("/", hello)])) as port:
        for headers in ({}, {"TraceParent": PARENT}):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_SECONDS)
            connection.request("GET", "/", headers=headers)
            assert connection.getresponse().read() == b"hello"
            connection.close()
        assert traces(ring_dir, 2) == [0, TRACE]


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """The application on a uvicorn in a thread of this process: its port."""
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        assert until(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(LIMIT_SECONDS)
        listener.close()
