"""How many requests of one method have started, and how many are running."""

from __future__ import annotations

from collections import Counter


class InFlight:
    """Puts together what is told at every request's end and what is read once a second.

    Adding a reading that is a second old to today's finished would make `started` go back, so
    it is what was started by the last reading, or has finished since.
    """

    def __init__(self) -> None:
        self._running: dict[tuple[int, int], int] = {}
        self._finished: Counter[int] = Counter()
        self._started: Counter[int] = Counter()
        self._started_by_the_gone = 0

    @property
    def running(self) -> int:
        """By the last readings of all sources."""
        return sum(self._running.values())

    @property
    def started(self) -> int:
        """Never goes back."""
        return self._started_by_the_gone + self._started.total()

    def finish(self, source: int) -> None:
        """One more request is finished."""
        self._finished[source] += 1
        self._started[source] = max(self._started[source], self._finished[source])

    def run(self, source: int, name_id: int, running: int) -> None:
        """What a source has in flight of one of the names that are counted here."""
        self._running[source, name_id] = running
        in_all = sum(count for (of, _), count in self._running.items() if of == source)
        self._started[source] = max(self._started[source], self._finished[source] + in_all)

    def close_source(self, source: int) -> None:
        """A process is gone, and with it what it had in flight: started, never finished."""
        self._running = {key: n for key, n in self._running.items() if key[0] != source}
        self._finished.pop(source, None)
        self._started_by_the_gone += self._started.pop(source, 0)
