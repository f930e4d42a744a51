"""Watches the ring directory: attaches what appears, reads what is there, lets go of what died.

| what happens | what is done |
|---|---|
| a ring appears | attached; read from its start, because the agent was there first |
| a ring was there before the agent | attached at its head; counters start at zero |
| its writer dies | read to its end, closed, the file removed where that is permitted |
| the file is unlinked under a living writer | the mapping is read on |
| not a ring, another version, damaged | counted, said once, left alone |
| the directory is missing or goes away | said once, waited for |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pinchpoint.ring.layout import SUFFIX, RingError
from pinchpoint.schema.clock import Anchor
from pinchpoint.sidecar.source import Arrival, RingSource

RINGS_MAX = 256
"""Rings attached at once. A poll of an idle ring costs some ten microseconds."""


class Rings:
    """All rings of a directory.

    Args:
        directory: may not exist yet.
        say: takes one sentence for the operator.
    """

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self.errors = 0
        self._directory = directory
        self._say = say
        self._attached: dict[str, RingSource] = {}
        self._before_us: set[str] | None = None
        self._refused: set[str] = set()
        self._said: set[str] = set()
        self._next_number = 1

    @property
    def attached(self) -> int:
        """Rings that are being read."""
        return len(self._attached)

    def poll(self, now: Anchor) -> Iterator[Arrival]:
        """Everything that is new in all rings. Never raises because of a ring."""
        names = self._scan()
        if self._before_us is None:
            self._before_us = set(names)
        for name in names:
            if name not in self._attached and name not in self._refused:
                yield from self._attach(name, now)
        for name, ring in list(self._attached.items()):
            yield from self._read(name, ring, now.monotonic_ns)

    def close(self) -> None:
        """Let go of every ring."""
        for ring in self._attached.values():
            ring.close()
        self._attached.clear()

    def _scan(self) -> list[str]:
        """The rings in the directory, in a stable order."""
        try:
            names = sorted(n for n in os.listdir(self._directory) if n.endswith(SUFFIX))
        except OSError as error:
            self._say_once(
                "",
                f"cannot look for rings in {self._directory} ({error.strerror}); they are "
                "attached as soon as it can be read",
            )
            return []
        self._said.discard("")
        # What is gone needs no memory of ours.
        self._refused.intersection_update(names)
        self._said.intersection_update(names)
        return names

    def _attach(self, name: str, now: Anchor) -> Iterator[Arrival]:
        if len(self._attached) >= RINGS_MAX:
            self._refuse(name, f"{RINGS_MAX} rings are attached already, it is left out")
            return
        from_start = name not in (self._before_us or ())
        try:
            ring = RingSource(self._next_number, self._directory / name, from_start=from_start)
        except FileNotFoundError:
            return
        except RingError as error:
            self._refuse(name, str(error))
            return
        except OSError as error:
            # Permissions and descriptors may come: tried again at every poll, said once.
            self._say_once(name, f"cannot read the ring {name}: {error.strerror}")
            return
        try:
            opened = ring.opened(now)
        except RingError as error:
            ring.close()
            self._refuse(name, str(error))
            return
        self._attached[name] = ring
        self._next_number += 1
        yield opened

    def _read(self, name: str, ring: RingSource, now_ns: int) -> Iterator[Arrival]:
        # Asked before reading: whatever a writer wrote before it died is then read.
        alive = ring.writer_alive()
        try:
            yield from ring.poll(now_ns) if alive else ring.drain(now_ns)
        except (RingError, OSError) as error:
            self._refuse(name, str(error))
            yield self._let_go(name, now_ns)
            return
        if not alive:
            yield self._let_go(name, now_ns)
            self._remove(ring.path)

    def _let_go(self, name: str, now_ns: int) -> Arrival:
        ring = self._attached.pop(name)
        ring.close()
        return ring.closed(now_ns)

    def _remove(self, path: Path) -> None:
        try:
            path.unlink()
        except OSError:
            # A read-only mount, or gone: the writers' side sweeps.
            self._refused.add(path.name)

    def _refuse(self, name: str, reason: str) -> None:
        self.errors += 1
        self._refused.add(name)
        self._say(f"the ring {name} is not read: {reason}")

    def _say_once(self, key: str, sentence: str) -> None:
        if key not in self._said:
            self._said.add(key)
            self.errors += bool(key)
            self._say(sentence)
