"""Every family in a live scrape of one server that does a bit of everything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pinchpoint.expose.families import FAMILIES
from pinchpoint.expose.gpu_families import GPU
from pinchpoint.expose.served_families import SERVED
from pinchpoint.expose.state import ScrapeStats
from pinchpoint.expose.web_families import scrape_families
from tests.integration.processes import ANY_PORT, PINCHPOINT, programs
from tests.integration.scraping import Metrics, endpoint_of
from tests.support.scripts import ECHO_SERVER, running

pytestmark = pytest.mark.integration

SERVER = (
    ECHO_SERVER
    + """
import gc
import http.client
import socket
import threading

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

pinchpoint.install()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))

    def forward(self, rows):
        return self.layers(rows)


model = Net()


def score(request, context):
    with pinchpoint.stage("tokenise"):
        rows = torch.ones(4, 64)
    model(rows)
    return request


def stream(request, context):
    yield request
    yield request


async def hello(request):
    return PlainTextResponse("hello")


server, port = echo_server()
more = {
    "Score": grpc.unary_unary_rpc_method_handler(score),
    "Stream": grpc.unary_stream_rpc_method_handler(stream),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.More", more),))
web = uvicorn.Server(
    uvicorn.Config(Starlette(routes=[Route("/", hello)]), ws="none", log_config=None)
)
listener = socket.create_server(("127.0.0.1", 0))
serving = threading.Thread(target=web.run, args=([listener],))
serving.start()
done = threading.Event()


def load():
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        while not done.wait(0.02):
            channel.unary_unary("/test.More/Score")(b"x")
            list(channel.unary_stream("/test.More/Stream")(b"x"))
            connection = http.client.HTTPConnection(*listener.getsockname())
            connection.request("GET", "/")
            connection.getresponse().read()
            connection.close()
            gc.collect()


loading = threading.Thread(target=load)
loading.start()
say("serving")
sys.stdin.readline()
done.set()
loading.join()
web.should_exit = True
serving.join()
server.stop(None).wait()
"""
)

NEEDS_A_GPU = {family.name for family in GPU} | {
    "pinchpoint_forward_device_seconds",
    "pinchpoint_forward_enqueue_seconds",
}

ABSENT_HERE = {
    "pinchpoint_bottleneck_share_ratio": "of active bottlenecks only",
    "pinchpoint_whatif_latency_reduction_ratio": "of active bottlenecks only",
    "pinchpoint_container_cpu_limit_cores": "of containers with a quota only",
    "pinchpoint_container_memory_limit_bytes": "of containers with a limit only",
    "pinchpoint_container_memory_swap_bytes": "not counted by every kernel",
    "pinchpoint_container_memory_peak_bytes": "of Linux 5.19 and later, and cgroup v1",
    "pinchpoint_container_memory_high_events": "of cgroup v2 only",
    "pinchpoint_process_open_fds": "of Linux 6.2 and later",
    "pinchpoint_process_max_fds": "where there is a limit",
    **dict.fromkeys(NEEDS_A_GPU, "of GPUs only"),
    **{family.name: "of servers by their own metrics: test_adapters" for family in SERVED},
}
"""Families that a machine may be without, and why."""


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metrics]:
    """The first scrape that has every family that this machine can have, or the last one."""
    directory = tmp_path_factory.mktemp("every-family")
    rings = directory / "rings"
    with programs(directory) as started, running(SERVER, rings) as server:
        assert server.line() == "serving"
        agent = endpoint_of(started.start(*PINCHPOINT, "agent", ANY_PORT, "--ring-dir", str(rings)))
        yield agent.scrape_when(lambda found: not missing(found))
        server.tell("end")


def missing(found: Metrics) -> set[str]:
    """Families without a series that have no excuse."""
    all_families = (*FAMILIES, *scrape_families(ScrapeStats()))
    names = {family.name for family in all_families}
    return names - {family.name for family in found.families} - ABSENT_HERE.keys()


def test_every_family_is_there(scrape: Metrics) -> None:
    """Each by its own means; nothing is made up for those that cannot be."""
    assert missing(scrape) == set()


def test_the_reasons_are_of_families_that_exist() -> None:
    """The list does not outlive what it excuses."""
    assert ABSENT_HERE.keys() <= {family.name for family in FAMILIES}
