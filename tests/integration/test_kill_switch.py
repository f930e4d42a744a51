from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest

import pinchpoint
from pinchpoint.probe.process import ProcessProbe
from pinchpoint.probe.switch import FILE
from pinchpoint.schema.events import StageEvent
from pinchpoint.schema.samples import ProbeSample, ProcessSample, ServerSample
from tests.support.rings import Contents, ring_with, the_ring
from tests.support.scripts import ECHO_SERVER, running
from tests.support.servers import Served, serving, unary
from tests.support.waiting import until

pytestmark = pytest.mark.integration


def echo(request: bytes, _context: grpc.ServicerContext) -> bytes:
    with pinchpoint.stage("echo"):
        return request


def whole(ring: Contents) -> list[ProbeSample]:
    """What the probe says of itself as a whole, once a second."""
    return [sample for sample in ring.of(ProbeSample) if sample.instance == 0]


def is_off(ring: Contents) -> bool:
    said = whole(ring)
    return bool(said) and said[-1].enabled == 0


def is_on(ring: Contents) -> bool:
    said = whole(ring)
    return bool(said) and said[-1].enabled == 1


def stages(ring: Contents) -> int:
    events: list[object] = [*ring.events]
    return sum(isinstance(event, StageEvent) for event in events)


def serves(served: Served, times: int = 5) -> bool:
    return [served.call("Echo") for _ in range(times)] == [b"x"] * times


@pytest.mark.parametrize("name", [FILE, f"{FILE}-{os.getpid()}"])
def test_a_file_switches_the_probe_off_and_its_removal_on_again(
    probe: ProcessProbe, ring_dir: Path, name: str
) -> None:
    """In between the server serves, nothing is recorded, and the probe says that it is off."""
    with serving({"Echo": unary(echo)}) as served:
        assert serves(served)
        before = ring_with(ring_dir, lambda ring: len(ring.requests()) == 5 and is_on(ring))
        assert stages(before) == 5

        (ring_dir / name).touch()
        assert until(lambda: is_off(the_ring(ring_dir)))
        off = the_ring(ring_dir)
        assert serves(served)
        later = ring_with(ring_dir, lambda ring: len(whole(ring)) >= len(whole(off)) + 2)
        assert (len(later.requests()), stages(later)) == (5, 5)
        assert later.of(ProcessSample) == off.of(ProcessSample)
        parts = {later.text(s.instance): s.enabled for s in later.of(ProbeSample) if s.instance}
        assert parts["grpc"] == parts["stages"] == parts["heartbeat"] == 0
        assert [part.errors for part in probe._guard.parts.values() if part.errors] == []

        (ring_dir / name).unlink()
        assert until(lambda: is_on(the_ring(ring_dir)))
        assert serves(served)
        again = ring_with(ring_dir, lambda ring: len(ring.requests()) == 10)
        assert stages(again) == 10
        # The five that came meanwhile are nobody's backlog.
        servers = len(again.of(ServerSample))
        last = ring_with(ring_dir, lambda ring: len(ring.of(ServerSample)) >= servers + 3)
        assert [s.core_waiting for s in last.of(ServerSample)[-2:]] == [0, 0]
        assert until(lambda: len(the_ring(ring_dir).of(ProcessSample)) > len(off.of(ProcessSample)))


def test_the_file_of_another_process_switches_nothing(probe: ProcessProbe, ring_dir: Path) -> None:
    """The directory is shared by all workers of a host."""
    (ring_dir / f"{FILE}-{os.getpid() + 1}").touch()
    with serving({"Echo": unary(echo)}) as served:
        assert serves(served)
        ring = ring_with(ring_dir, lambda ring: len(whole(ring)) >= 2)
        assert [sample.enabled for sample in whole(ring)].count(0) == 0
        assert len(ring_with(ring_dir, lambda ring: ring.requests()).requests()) == 5


def test_a_part_that_broke_is_not_mended_by_the_switch(probe: ProcessProbe, ring_dir: Path) -> None:
    """On again are only those that were on."""
    with serving({"Echo": unary(echo)}) as served:
        assert until(lambda: is_on(the_ring(ring_dir)))
        probe._guard.part("stages").trip(ValueError("ours"))
        (ring_dir / FILE).touch()
        assert until(lambda: is_off(the_ring(ring_dir)))
        (ring_dir / FILE).unlink()
        assert until(lambda: is_on(the_ring(ring_dir)))
        assert serves(served)
        ring = ring_with(ring_dir, lambda ring: len(ring.requests()) == 5)
        assert stages(ring) == 0


def test_a_server_that_starts_under_the_switch_is_seen_after_it(
    probe: ProcessProbe, ring_dir: Path
) -> None:
    """The file is there before the ring is."""
    (ring_dir / FILE).touch()
    with serving({"Echo": unary(echo)}) as served:
        assert until(lambda: is_off(the_ring(ring_dir)))
        seen = len(the_ring(ring_dir).requests())
        assert serves(served)
        (ring_dir / FILE).unlink()
        assert until(lambda: is_on(the_ring(ring_dir)))
        assert serves(served)
        ring = ring_with(ring_dir, lambda ring: len(ring.requests()) == seen + 5)
    assert len(ring.requests()) == seen + 5


FORKS_WHILE_OFF = (
    ECHO_SERVER
    + """
import os
pinchpoint.install()
first, port = echo_server()
from pinchpoint.probe import activate
probe = activate._Installed.activation.probe
say(port)
sys.stdin.readline()
assert probe._guard.paused
child = os.fork()
if child == 0:
    assert not probe._guard.paused
    assert probe._guard.part("grpc").enabled
    os._exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
)


def test_a_child_forked_while_the_probe_is_off_looks_for_itself(ring_dir: Path) -> None:
    """Nobody would switch it on again: the parent's sampler is not there."""
    with running(FORKS_WHILE_OFF, ring_dir, GRPC_ENABLE_FORK_SUPPORT="false") as script:
        assert script.line()
        (ring_dir / FILE).touch()
        assert until(lambda: is_off(the_ring(ring_dir)))
        script.tell("fork")
        assert script.line() == "0"
