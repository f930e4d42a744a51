"""The official gRPC examples, each driven by its own client."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.integration.processes import Program
from tests.support.waiting import until
from tests.thirdparty.environment import EXAMPLES, PYTHON, is_listening, run
from tests.thirdparty.observed import Observed, counts, is_whole

pytestmark = pytest.mark.integration

PORT = 50051
"""Of every example, in its source."""

GREETINGS = 3
METHOD = ("grpc_type", "grpc_service", "grpc_method")
HELLO = ("unary", "helloworld.Greeter", "SayHello")


def serve_example(seen: Observed, server: str) -> Program:
    """Start an example's server and wait until it listens."""
    assert not is_listening(PORT), f"port {PORT}, which the examples need, is taken"
    path = EXAMPLES / server
    program = seen.serve(PYTHON, path, directory=path.parent)
    assert until(lambda: is_listening(PORT) or program.process.poll() is not None)
    assert program.process.poll() is None, program.err
    return program


def run_client(client: str) -> str:
    """Run an example's client to its end: what it has printed."""
    path = EXAMPLES / client
    return run(PYTHON, path, directory=path.parent)


@pytest.mark.parametrize(
    ("server", "client"),
    [
        ("helloworld/greeter_server.py", "helloworld/greeter_client.py"),
        ("helloworld/async_greeter_server.py", "helloworld/async_greeter_client.py"),
    ],
    ids=["sync", "aio"],
)
def test_every_greeting_is_counted(seen: Observed, server: str, client: str) -> None:
    program = serve_example(seen, server)
    for _ in range(GREETINGS):
        assert run_client(client).splitlines()[-1] == "Greeter client received: Hello, you!"
    seen.await_count("grpc_server_handled_total", GREETINGS)
    assert program.stop() == 143
    metrics = seen.final()

    assert counts(metrics, "grpc_server_started_total", *METHOD) == {HELLO: GREETINGS}
    assert counts(metrics, "grpc_server_handled_total", *METHOD, "grpc_code") == {
        (*HELLO, "OK"): GREETINGS
    }
    assert counts(metrics, "grpc_server_handling_seconds_count", *METHOD) == {HELLO: GREETINGS}
    assert counts(metrics, "grpc_server_msg_received_total", *METHOD) == {HELLO: GREETINGS}
    assert counts(metrics, "grpc_server_msg_sent_total", *METHOD) == {HELLO: GREETINGS}
    assert is_whole(metrics)


def sections(printed: str) -> dict[str, str]:
    """What the route guide's client says of each method that it has called."""
    parts = re.split(r"^-+ (\w+) -+$", printed, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def said(text: str, start: str) -> int:
    """How many lines begin with these words."""
    return len(re.findall(f"^{start}", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("server", "client"),
    [
        ("route_guide/route_guide_server.py", "route_guide/route_guide_client.py"),
        ("route_guide/asyncio_route_guide_server.py", "route_guide/asyncio_route_guide_client.py"),
    ],
    ids=["sync", "aio"],
)
def test_every_message_of_all_four_kinds_is_counted(
    seen: Observed, server: str, client: str
) -> None:
    program = serve_example(seen, server)
    told = sections(run_client(client))
    seen.await_count("grpc_server_handled_total", 5)
    assert program.stop() == 143
    metrics = seen.final()

    def guide(grpc_type: str, method: str) -> tuple[str, str, str]:
        return grpc_type, "routeguide.RouteGuide", method

    get = guide("unary", "GetFeature")
    listing = guide("server_stream", "ListFeatures")
    record = guide("client_stream", "RecordRoute")
    chat = guide("bidi_stream", "RouteChat")
    features = said(told["ListFeatures"], "Feature called")
    points = said(told["RecordRoute"], "Visiting point")
    notes = said(told["RouteChat"], "Sending")
    replies = said(told["RouteChat"], "Received message")
    assert (points, notes, replies) == (10, 5, 2)
    assert features > 10

    calls = Counter({get: 2, listing: 1, record: 1, chat: 1})
    assert counts(metrics, "grpc_server_started_total", *METHOD) == calls
    assert counts(metrics, "grpc_server_handled_total", *METHOD, "grpc_code") == {
        (*method, "OK"): number for method, number in calls.items()
    }
    assert counts(metrics, "grpc_server_msg_received_total", *METHOD) == {
        get: 2,
        listing: 1,
        record: points,
        chat: notes,
    }
    assert counts(metrics, "grpc_server_msg_sent_total", *METHOD) == {
        get: 2,
        listing: features,
        record: 1,
        chat: replies,
    }
    assert is_whole(metrics)
