"""Rings as tests see them: everything that is in a file, unpacked and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pinchpoint.ring.layout import SUFFIX
from pinchpoint.ring.reader import Loss, RingReader
from pinchpoint.schema.events import Event, ForwardEvent, LayerEvent, RequestDetail, RequestEvent
from pinchpoint.schema.names import Names
from pinchpoint.schema.observations import Name
from pinchpoint.schema.samples import Sample
from pinchpoint.schema.wire import Segment, unpack_detail, unpack_event, unpack_name
from tests.support.waiting import until

SOURCE = 1

S = TypeVar("S", bound=Sample)


@dataclass
class Contents:
    """What a ring holds."""

    process_id: int = 0
    events: list[Event] = field(default_factory=list)
    details: list[RequestDetail] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    resolve: Names = field(default_factory=Names)

    def requests(self, method: str | None = None) -> list[RequestEvent]:
        """Finished RPCs, in the order of their records; of one method if it is given."""
        found = [event for event in self.events if isinstance(event, RequestEvent)]
        return [e for e in found if method is None or self.text(e.method_id) == method]

    def forwards(self) -> list[ForwardEvent]:
        """Forwards of models."""
        return [event for event in self.events if isinstance(event, ForwardEvent)]

    def layers(self) -> list[LayerEvent]:
        """Layers of sampled forwards."""
        return [event for event in self.events if isinstance(event, LayerEvent)]

    def of(self, sample_type: type[S]) -> list[S]:
        """Samples of one type."""
        return [sample for sample in self.samples if isinstance(sample, sample_type)]

    def text(self, name_id: float | None) -> str:
        """The name behind an id."""
        return self.resolve.text(SOURCE, name_id)


def contents(path: Path) -> Contents:
    """Everything that is in a ring now."""
    found = Contents()
    reader = RingReader(path, from_start=True)
    try:
        found.process_id = reader.header.process_id
        for slot in reader.poll(Segment.EVENTS, 0, found.losses.append):
            found.events.append(unpack_event(slot))
        for slot in reader.poll(Segment.DETAILS, 0, found.losses.append):
            record = unpack_detail(slot)
            if isinstance(record, RequestDetail):
                found.details.append(record)
            else:
                found.samples.append(record)
        for slot in reader.poll(Segment.NAMES, 0, found.losses.append):
            name = unpack_name(slot)
            found.names.append(name)
            found.resolve.learn(SOURCE, name)
    finally:
        reader.close()
    return found


def ring_files(directory: Path) -> list[Path]:
    """The rings of a directory."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def the_ring(directory: Path) -> Contents:
    """What is in the only ring of a directory."""
    (path,) = ring_files(directory)
    return contents(path)


def ring_with(directory: Path, enough: Callable[[Contents], object]) -> Contents:
    """The only ring, once it holds enough (or whatever it holds at the limit).

    A record is written after the client has its answer, so a test has to wait for it.
    """
    until(lambda: enough(the_ring(directory)))
    return the_ring(directory)
