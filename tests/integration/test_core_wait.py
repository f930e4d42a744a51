"""The wait before Python sees an RPC: what the probe estimates and what the client measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinchpoint.schema.samples import ServerSample
from tests.support.rings import Contents, ring_with, the_ring
from tests.support.scripts import running

pytestmark = pytest.mark.integration

REQUESTS_PER_SECOND = 240
SECONDS = 5
"""Twice what the server can take: the backlog grows for so long, and then falls for as long. What
comes and goes faster is too coarsely sampled to be compared with anything."""

CLIENT = """
import sys
import threading
import time

import grpc

port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
done = threading.Semaphore(0)
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    work = channel.unary_unary("/test.Service/Work")
    begin = time.monotonic()
    calls = round(rate * seconds)
    for number in range(calls):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        sent = (("sent-ns", str(time.monotonic_ns())),)
        work.future(b"x", metadata=sent).add_done_callback(lambda call: done.release())
    for _ in range(calls):
        done.acquire()
"""

COMMON = """
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

import pinchpoint

assert pinchpoint.install()
waits_ns = []


def note(details):
    sent_ns = dict(details.invocation_metadata)["sent-ns"]
    waits_ns.append(time.monotonic_ns() - int(sent_ns))


def hold():
    time.sleep(0.008)  # no CPU: where that is scarce the core would give up on calls, after 30 s


def client(port):
    return [sys.executable, "-c", CLIENT, str(port), str(RATE), str(SECONDS)]


def report():
    print(len(waits_ns), sum(waits_ns), flush=True)
    sys.stdin.readline()
"""

SYNC = """
class Noting(grpc.ServerInterceptor):
    def intercept_service(self, proceed, details):
        note(details)
        hold()  # the serving thread, which is kept from all other calls meanwhile
        return proceed(details)


def work(request, context):
    return request


server = grpc.server(ThreadPoolExecutor(8), interceptors=[Noting()])
handlers = {"Work": grpc.unary_unary_rpc_method_handler(work)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
subprocess.run(client(port), check=True, timeout=120)
report()
server.stop(None)
"""

AIO = """
import asyncio


class Noting(grpc.aio.ServerInterceptor):
    async def intercept_service(self, proceed, details):
        note(details)
        return await proceed(details)


async def work(request, context):
    hold()
    return request


async def serve():
    server = grpc.aio.server(interceptors=[Noting()])
    handlers = {"Work": grpc.unary_unary_rpc_method_handler(work)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Service", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    load = await asyncio.create_subprocess_exec(*client(port))
    assert await asyncio.wait_for(load.wait(), 120) == 0
    await asyncio.to_thread(report)
    await server.stop(None)


asyncio.run(serve())
"""


@pytest.mark.parametrize("serve", [SYNC, AIO], ids=["a blocked serving thread", "a blocked loop"])
def test_the_estimate_is_what_the_client_measured(ring_dir: Path, serve: str) -> None:
    """All of it lies before any interceptor, where every other library is blind."""
    head = f"CLIENT, RATE, SECONDS = {CLIENT!r}, {REQUESTS_PER_SECOND}, {SECONDS}"
    with running("\n".join((head, COMMON, serve)), ring_dir) as server:
        requests, waited_ns = map(int, server.line().split())
        assert requests == REQUESTS_PER_SECOND * SECONDS
        seen = len(estimates(the_ring(ring_dir)))
        # The backlog is told once a second: the second from now on is of after the load.
        ring = ring_with(ring_dir, lambda found: len(estimates(found)) >= seen + 2)
        server.tell("end")
    last = estimates(ring)[-1]
    assert last.core_waiting == 0
    assert last.core_wait_ns == pytest.approx(waited_ns, rel=0.1)


def estimates(ring: Contents) -> list[ServerSample]:
    """Samples that have one."""
    return [sample for sample in ring.of(ServerSample) if sample.core_wait_ns is not None]


OFF = """
from concurrent.futures import ThreadPoolExecutor

import grpc

import pinchpoint

assert pinchpoint.install()
server = grpc.server(ThreadPoolExecutor(1), options=(("grpc.enable_channelz", 0),))
server.add_insecure_port("127.0.0.1:0")
server.start()
print("ready", flush=True)
input()
"""


def test_a_server_without_channelz_has_no_estimate(ring_dir: Path) -> None:
    """Absent is absent: no 0 for what nobody counts."""
    with running(OFF, ring_dir) as server:
        assert server.line() == "ready"
        samples = ring_with(ring_dir, lambda found: found.of(ServerSample)).of(ServerSample)
    assert samples
    assert all(sample.core_wait_ns is None for sample in samples)
