"""Named stages of requests that a real server handles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import pinchpoint
from pinchpoint.probe.process import ProcessProbe
from pinchpoint.schema.events import StageEvent
from pinchpoint.schema.observations import NameKind
from tests.support.rings import Contents, ring_with, the_ring
from tests.support.scripts import ECHO_SERVER, run
from tests.support.servers import SERVICE, serving, unary

pytestmark = pytest.mark.integration


def stages(ring: Contents) -> list[StageEvent]:
    events: list[object] = [*ring.events]
    return [event for event in events if isinstance(event, StageEvent)]


@pinchpoint.stage("decorated")
def handle(request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Decorated when this module was imported: long before any probe."""
    with pinchpoint.stage("inner"):
        return request


def test_a_stage_of_a_request_names_its_method(probe: ProcessProbe, ring_dir: Path) -> None:
    """And one outside of every request names none."""
    with serving({"Handle": unary(handle)}) as served:
        served.call("Handle")
        with pinchpoint.stage("outside"):
            pass
        ring = ring_with(ring_dir, lambda found: len(stages(found)) == 3 and found.requests())
    methods = {ring.text(s.stage_id): ring.text(s.method_id) for s in stages(ring) if s.method_id}
    path = f"/{SERVICE}/Handle"
    assert methods == {"decorated": path, "inner": path}
    (outside,) = [s for s in stages(ring) if not s.method_id]
    assert ring.text(outside.stage_id) == "outside"
    inner, outer = sorted((s for s in stages(ring) if s.method_id), key=lambda stage: stage.wall_ns)
    assert outer.self_ns == outer.wall_ns - inner.wall_ns
    (request,) = ring.requests()
    assert outer.wall_ns <= request.handler_ns
    kinds = {name.text for name in ring.names if name.kind == NameKind.STAGE}
    assert kinds == {"decorated", "inner", "outside"}


def test_a_decorated_stream_is_one_pass_of_its_method(probe: ProcessProbe, ring_dir: Path) -> None:
    """It is iterated by grpcio on the serving thread."""

    @pinchpoint.stage("stream")
    def three(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from (b"1", b"2", b"3")

    handlers: dict[str, Any] = {"Three": grpc.unary_stream_rpc_method_handler(three)}
    with serving(handlers) as served:
        path = f"/{SERVICE}/Three"
        assert list(served.channel.unary_stream(path)(b"x")) == [b"1", b"2", b"3"]
        ring = ring_with(ring_dir, stages)
    (stage,) = stages(ring)
    assert ring.text(stage.method_id) == path


def test_after_uninstall_stages_are_silent(probe: ProcessProbe, ring_dir: Path) -> None:
    """What was decorated goes on working."""
    with serving({"Handle": unary(handle)}) as served:
        served.call("Handle")
        ring_with(ring_dir, lambda found: len(stages(found)) == 2)
        pinchpoint.uninstall()
        assert served.call("Handle") == b"x"
    assert len(stages(the_ring(ring_dir))) == 2


FORKS_IN_A_STAGE = (
    ECHO_SERVER
    + """
import os
pinchpoint.install()
server, port = echo_server()
with pinchpoint.stage("before"):
    child = os.fork()
    if child == 0:
        with pinchpoint.stage("in the child"):
            pass
if child == 0:
    os._exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
)


def test_a_forked_child_writes_nothing_into_its_parents_ring(ring_dir: Path) -> None:
    """It leaves the stage that it was forked in, and enters others."""
    done = run(FORKS_IN_A_STAGE, ring_dir, GRPC_ENABLE_FORK_SUPPORT="false")
    assert done.stdout.split() == ["0"], done.stderr
    ring = the_ring(ring_dir)
    assert [ring.text(stage.stage_id) for stage in stages(ring)] == ["before"]
