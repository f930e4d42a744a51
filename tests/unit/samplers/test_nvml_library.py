from __future__ import annotations

import pytest

from pinchpoint.samplers.nvml_library import Failure, failure_of, text


@pytest.mark.parametrize("name", ["GPU-é", "GPU-é".encode()])
def test_an_older_pynvml_gives_bytes(name: str | bytes) -> None:
    """Either is the same name."""
    assert text(name) == "GPU-é"
    assert "\ufffd" in text(b"\xff")


@pytest.mark.parametrize("error", [AttributeError("no function"), TypeError("no argument")])
def test_what_an_older_pynvml_lacks_is_not_asked_again(error: Exception) -> None:
    """A function, or an argument of one."""
    assert failure_of(error) is Failure.NEVER
