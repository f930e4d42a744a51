"""What can go wrong with this server, each behind a switch that works while it serves.

Every switch is the real thing: a thread that holds the GIL, a costly filter, a hot layer, too
small a pool. Faults that are not the server's own (its CPU quota, its dependency) are elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from examples.image_classifier.model import ImageClassifier
from examples.image_classifier.preprocess import Preprocessor
from examples.image_classifier.serving import Serving

Switch = Callable[[bool], None]

_HOT_BLOCK_PASSES = 24


def switches(
    model: ImageClassifier, preprocess: Preprocessor, serving: Serving, workers: int
) -> dict[str, Switch]:
    """Return the switches by the name of their fault."""

    def slow_preprocess(on: bool) -> None:
        preprocess.supersampling = on

    def hot_layer(on: bool) -> None:
        model.block3.passes = _HOT_BLOCK_PASSES if on else 1

    def few_workers(on: bool) -> None:
        serving.resize(1 if on else workers)

    return {
        "gil": SessionStatistics().switch,
        "slow-preprocess": slow_preprocess,
        "hot-layer": hot_layer,
        "few-workers": few_workers,
    }


class SessionStatistics:
    """A background thread in pure Python that hardly ever lets go of the GIL."""

    # A pause now and then keeps the server slow rather than stuck.
    _BUSY_S = 0.030
    _PAUSE_S = 0.010

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def switch(self, on: bool) -> None:
        """Start or stop the thread; a stopped one has ended when this returns."""
        if on and self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="session-stats", daemon=True)
            self._thread.start()
        elif not on and self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        sessions = [(index * 7919) % 104729 for index in range(2000)]
        while not self._stop.wait(self._PAUSE_S):
            deadline_s = time.monotonic() + self._BUSY_S
            while time.monotonic() < deadline_s:
                _update(sessions)


def _update(sessions: list[int]) -> None:
    for index, value in enumerate(sessions):
        sessions[index] = (value * 31 + index) % 104729
