from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pinchpoint.probe.asgi_routes import HTTP_METHODS, Routes
from pinchpoint.probe.methods import METHODS_MAX
from pinchpoint.probe.recorder import Recorder
from pinchpoint.samplers.python_runtime import GcWatch
from pinchpoint.schema.terms import CALL_TYPES
from tests.support.rings import the_ring


class NoModels:
    pending = False

    def before_handler(self) -> None:
        """There are none."""


@pytest.fixture
def recorder(ring_dir: Path) -> Iterator[Recorder]:
    made = Recorder(ring_dir, GcWatch(), NoModels())
    yield made
    made.close()


def test_a_route_is_named_once_by_method_and_template(recorder: Recorder, ring_dir: Path) -> None:
    """And declared to the agent as HTTP."""
    routes = Routes()
    first = routes.learn(recorder, "GET", "/items/{item}")
    assert routes.known == {("GET", "/items/{item}"): first}
    assert routes.learn(recorder, "GET", "/items/{item}") == first
    assert routes.learn(recorder, "PUT", "/items/{item}") != first
    names = the_ring(ring_dir).names
    assert [name.text for name in names] == ["GET /items/{item}", "PUT /items/{item}"]
    assert {CALL_TYPES[name.detail] for name in names} == {"http"}


def test_routes_beyond_the_cap_are_as_if_nothing_had_matched(
    recorder: Recorder, ring_dir: Path
) -> None:
    """Those that were known before stay known."""
    routes = Routes()
    known = [routes.learn(recorder, "GET", f"/{number}") for number in range(METHODS_MAX)]
    other = routes.learn(recorder, "GET", "/one-too-many")
    assert other == routes.without(recorder, "GET")
    assert the_ring(ring_dir).text(other) == "GET _OTHER"
    assert other not in known
    assert len(routes.known) == METHODS_MAX


def test_a_method_that_nobody_knows_is_other(recorder: Recorder, ring_dir: Path) -> None:
    """However many a client makes up."""
    routes = Routes()
    made_up = {routes.learn(recorder, f"MADE{number}", "/items") for number in range(9)}
    made_up |= {routes.without(recorder, method) for method in ("get", "", "_OTHER")}
    (other,) = made_up
    assert the_ring(ring_dir).text(other) == "_OTHER _OTHER"
    assert {routes.without(recorder, method) for method in HTTP_METHODS}.isdisjoint(made_up)
    assert set(routes.unmatched) == HTTP_METHODS
