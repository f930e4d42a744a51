"""Whatever an ASGI application does, neither it nor its server can tell that the probe is there."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinchpoint.probe.asgi import MARK, AsgiProbe
from pinchpoint.probe.asgi_request import HttpCall
from pinchpoint.probe.call import Call
from pinchpoint.probe.guard import Part
from pinchpoint.probe.loop_lag import LoopLag
from pinchpoint.probe.recorder import Recorder
from pinchpoint.samplers.python_runtime import GcWatch
from tests.support.rings import the_ring


class NoModels:
    pending = False

    def before_handler(self) -> None:
        raise AssertionError("there is nothing to pick up")


@pytest.fixture
def recorder(ring_dir: Path) -> Iterator[Recorder]:
    made = Recorder(ring_dir, GcWatch(), NoModels())
    yield made
    made.close()


def probe_of(recorder: Recorder) -> AsgiProbe:
    return AsgiProbe(Part("http"), lambda: recorder, set(), LoopLag(Part("loops")))


class Refused(Exception):
    """What a server's `send` or `receive` may raise."""


class Broken(Exception):
    """What an application may raise."""


@coroutine
def turn() -> Generator[str, None, None]:
    """Give the thread back once."""
    yield "turn"


class Server:
    """Does as it is planned to, and keeps what it sees."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._requests = iter(plan["requests"])
        self._sends = 0
        self.seen: list[Any] = []

    async def receive(self) -> Any:
        self.seen.append("receive")
        if self._plan["waits"]:
            await turn()
        message = next(self._requests, {"type": "http.disconnect"})
        if message is None:
            raise Refused("receive")
        return message

    async def send(self, message: Any) -> Any:
        self.seen.append(message)
        self._sends += 1
        if self._plan["waits"]:
            await turn()
        if self._sends == self._plan["refuses"]:
            raise Refused("send")
        return self._plan["answer"]


def app_of(plan: dict[str, Any], seen: list[Any]) -> Callable[[Any, Any, Any], Any]:
    """An application that does as it is planned to, and keeps what it sees."""

    async def app(scope: Any, receive: Any, send: Any) -> Any:
        seen.append({key: value for key, value in scope.items() if key != MARK})
        for step in plan["steps"]:
            try:
                if step == "turn":
                    await turn()
                elif step == "receive":
                    seen.append(await receive())
                elif step == "raise":
                    raise Broken("app")
                else:
                    seen.append(await send(step))
            except BaseException as error:
                seen.append(repr(error))
                if isinstance(error, GeneratorExit) or not plan["persists"]:
                    raise
        return plan["result"]

    return app


def drive(app: Any, plan: dict[str, Any], scope: dict[str, Any]) -> Any:
    """Everything that can be seen of one call of an application, by its loop and by its server."""
    server = Server(plan)
    running = app(scope, server.receive, server.send)
    turns = 0
    try:
        while True:
            cancel = turns == plan["cancelled_at"]
            what = running.throw(CancelledError("told to")) if cancel else running.send(None)
            turns += 1
            assert what == "turn"
            if turns == plan["closed_at"]:
                running.close()
                return server.seen, turns, "closed"
    except StopIteration as stopped:
        return server.seen, turns, stopped.value
    except BaseException as error:
        return server.seen, turns, repr(error)


HEADS = st.fixed_dictionaries(
    {"type": st.just("http.response.start"), "status": st.sampled_from([200, 404, 503, 7, "200"])},
    optional={"headers": st.just([(b"x", b"y")])},
)
BODIES = st.fixed_dictionaries(
    {"type": st.just("http.response.body")},
    optional={
        "body": st.sampled_from([b"", b"data", "text", None, 7]),
        "more_body": st.sampled_from([False, True, None]),
    },
)
STRANGE = st.sampled_from([{}, None, "text", {"type": "http.response.trailers"}, {"type": 3}])
REQUESTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["http.request", "http.disconnect"])},
        optional={"body": st.sampled_from([b"", b"data"]), "more_body": st.booleans()},
    )
    | st.none(),
    max_size=3,
)
STEPS = st.lists(
    HEADS | BODIES | BODIES | STRANGE | st.sampled_from(["turn", "receive", "raise"]), max_size=7
)
PLANS = st.fixed_dictionaries(
    {
        "requests": REQUESTS,
        "steps": STEPS,
        "waits": st.booleans(),
        "persists": st.booleans(),
        "refuses": st.integers(0, 4),
        "cancelled_at": st.integers(1, 12),
        "closed_at": st.integers(1, 12),
        "answer": st.sampled_from([None, "sent"]),
        "result": st.sampled_from([None, "result"]),
    }
)


def scope_of(method: str = "POST") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": "/predict",
        "headers": [(b"content-length", b"4")],
    }


@given(plan=PLANS, sampled=st.booleans(), again=st.booleans())
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_request_is_the_same_with_the_probe_and_recorded_once(
    recorder: Recorder, ring_dir: Path, plan: dict[str, Any], sampled: bool, again: bool
) -> None:
    """Messages, their order, what either side is raised and returned; wrapped twice or not."""
    recorder.threshold = 2**32 if sampled else 0
    probe = probe_of(recorder)
    found = the_ring(ring_dir)
    requests, details = len(found.requests()), len(found.details)

    bare_seen: list[Any] = []
    expected = drive(app_of(plan, bare_seen), plan, scope_of())
    probed_seen: list[Any] = []
    probed = probe.wrap(app_of(plan, probed_seen))
    seen = drive(probe.wrap(probed) if again else probed, plan, scope_of())

    assert seen == expected
    assert probed_seen == bare_seen
    assert (probe.part.enabled, probe.part.last_error) == (True, "")
    assert not probe.active
    found = the_ring(ring_dir)
    assert len(found.requests()) == requests + 1
    assert len(found.details) == details + sampled


# All but those that the guard stands in.
METHODS = [
    (owner, name)
    for owner in (HttpCall, Call, AsgiProbe)
    for name, value in vars(owner).items()
    if callable(value)
    and name not in ("serve", "send", "receive", "begin", "_pass", "_leave", "_enter_send")
    and name not in ("install", "uninstall", "wrap", "__class_getitem__")
]
ORDINARY = {
    "requests": [{"type": "http.request", "body": b"data"}],
    "steps": [
        "receive",
        {"type": "http.response.start", "status": 200},
        {"type": "http.response.body", "body": b"one", "more_body": True},
        {"type": "http.response.body", "body": b"two", "more_body": True},
        "turn",
        {"type": "http.response.body"},
    ],
    "waits": True,
    "persists": False,
    "refuses": 0,
    "cancelled_at": -1,
    "closed_at": -1,
    "answer": "sent",
    "result": "result",
}


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize(("owner", "name"), METHODS)
def test_a_fault_in_the_probe_costs_no_request(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, sampled: bool
) -> None:
    """Each of our methods raises in turn; the request goes on, and the part goes off for it."""
    recorder.threshold = 2**32 if sampled else 0
    probe = probe_of(recorder)
    broken = 0

    def fail(*_args: Any, **_kwargs: Any) -> Any:
        nonlocal broken
        broken += 1
        raise MemoryError(name)

    expected_seen: list[Any] = []
    expected = drive(app_of(ORDINARY, expected_seen), ORDINARY, scope_of())
    assert expected[2] == "result"
    app_seen: list[Any] = []
    app = probe.wrap(app_of(ORDINARY, app_seen))
    monkeypatch.setattr(owner, name, fail)
    assert drive(app, ORDINARY, scope_of()) == expected
    assert app_seen == expected_seen
    monkeypatch.undo()
    assert probe.part.enabled is not bool(broken)
    assert not probe.active
    assert drive(app, ORDINARY, scope_of()) == expected


HEAD = {"type": "http.response.start", "status": 201}
BODY = {"type": "http.response.body", "body": b"one"}
GONE = [{"type": "http.disconnect"}]


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (201, {"steps": [HEAD, BODY]}),
        (201, {"steps": [HEAD, "raise"]}),
        (201, {"steps": [HEAD, "turn"], "cancelled_at": 2}),
        (0, {"steps": [HEAD, BODY], "refuses": 1}),  # the server has refused the head
        (500, {"steps": [BODY, HEAD], "refuses": 1}),  # nothing was begun: it answers itself
        (500, {"steps": ["raise"]}),
        (500, {"steps": []}),
        (0, {"steps": ["turn"], "waits": False, "cancelled_at": 1}),
        (0, {"steps": ["receive"], "requests": GONE}),
        (0, {"steps": ["receive", "raise"], "requests": GONE}),
        (0, {"steps": ["receive", HEAD, BODY], "requests": GONE}),
    ],
)
def test_the_status_is_what_the_client_was_sent(
    recorder: Recorder, ring_dir: Path, status: int, changes: dict[str, Any]
) -> None:
    """Or 0 where it was sent none, which is known if the server or its messages say so."""
    plan = {**ORDINARY, **changes}
    drive(probe_of(recorder).wrap(app_of(plan, [])), plan, scope_of())
    assert [event.status for event in the_ring(ring_dir).requests()] == [status]


def test_a_message_that_outlives_its_request_is_not_another_one(
    recorder: Recorder, ring_dir: Path
) -> None:
    """A task of the application's own ends after the server has let go of the request."""
    probe = probe_of(recorder)
    plan = {**ORDINARY, "steps": [HEAD]}
    left: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(HEAD)
        left.append(send(BODY))
        assert left[0].send(None) == "turn"  # the server has not taken it yet

    drive(probe.wrap(app), plan, scope_of())
    with pytest.raises(StopIteration):
        left[0].send(None)
    assert len(the_ring(ring_dir).requests()) == 1
    assert probe.part.enabled
