from __future__ import annotations

import pytest

from pinchpoint.probe.guard import Guard


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def test_a_part_is_on_until_it_fails() -> None:
    """And then off for good, with the error counted and kept."""
    part = Guard().part("grpc")
    assert (part.enabled, part.errors, part.last_error) == (True, 0, "")
    part.trip(ValueError("first"))
    assert (part.enabled, part.errors, part.last_error) == (False, 1, "ValueError: first")
    part.trip(KeyError("second"))
    assert (part.enabled, part.errors) == (False, 2)


def test_one_part_that_fails_leaves_the_others_on() -> None:
    """A defect with models does not end what is known of requests."""
    guard = Guard()
    guard.part("torch").trip(ValueError())
    assert guard.part("grpc").enabled
    assert not guard.part("torch").enabled


def test_an_error_that_cannot_be_printed_is_counted_all_the_same() -> None:
    """trip() is called where nothing may be raised."""
    part = Guard().part("grpc")
    part.trip(Unprintable())
    assert (part.errors, part.last_error) == (1, "Unprintable")


def test_a_long_message_is_cut() -> None:
    """It may quote a payload or a whole graph."""
    part = Guard().part("grpc")
    part.trip(ValueError("x" * 10_000))
    assert len(part.last_error) == 200


@pytest.mark.parametrize(("debug", "printed"), [("1", True), ("", False)])
def test_the_traceback_is_printed_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], debug: str, printed: bool
) -> None:
    """Nothing is logged in production; PINCHPOINT_DEBUG is for us."""
    monkeypatch.setenv("PINCHPOINT_DEBUG", debug)
    Guard().part("grpc").trip(ValueError("seen"))
    assert ("ValueError: seen" in capsys.readouterr().err) is printed


# The kill switch


def test_a_pause_switches_every_part_off_without_an_error() -> None:
    """And the end of the pause switches them on again."""
    guard = Guard()
    parts = [guard.part(name) for name in ("grpc", "torch")]
    guard.pause()
    guard.pause()
    assert [(part.enabled, part.errors) for part in parts] == [(False, 0)] * 2
    guard.resume()
    assert [part.enabled for part in parts] == [True, True]
    guard.resume()
    assert [part.enabled for part in parts] == [True, True]


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_part_with_an_error_stays_off_after_a_pause(when: str) -> None:
    """The switch mends nothing."""
    guard = Guard()
    part = guard.part("grpc")
    if when == "before":
        part.trip(ValueError())
    guard.pause()
    if when == "during":
        part.trip(ValueError())
    guard.resume()
    assert not part.enabled


def test_a_part_that_was_taken_out_stays_off_after_a_pause() -> None:
    """Uninstalling switches parts off without an error."""
    guard = Guard()
    part = guard.part("grpc")
    part.enabled = False
    guard.pause()
    guard.resume()
    assert not part.enabled


def test_a_part_made_during_a_pause_is_off_until_its_end() -> None:
    """A server's first model may come then."""
    guard = Guard()
    guard.pause()
    part = guard.part("models")
    assert guard.part("models") is part
    assert not part.enabled
    guard.resume()
    assert part.enabled


def test_what_asks_for_the_switch_stays_on() -> None:
    """Or nobody would see that it is released."""
    guard = Guard()
    part = guard.part("switch", always_on=True)
    guard.pause()
    assert part.enabled
    part.trip(ValueError())
    guard.resume()
    assert not part.enabled


def test_a_guard_that_is_closed_switches_nothing_on() -> None:
    """The probe was taken out while it was paused."""
    guard = Guard()
    part = guard.part("grpc")
    guard.pause()
    guard.close()
    guard.resume()
    assert not part.enabled
