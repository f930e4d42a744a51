"""What the tests of the samplers share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample

DEADLINE_SECONDS = 30.0
"""After this a condition that has to come true is given up; it is never waited for in full."""

T = TypeVar("T", bound=Sample)


class Names:
    """An interner that can be asked what an id stands for."""

    def __init__(self) -> None:
        self.ids: dict[tuple[NameKind, str], int] = {}

    def __call__(self, kind: NameKind, text: str) -> int:
        return self.ids.setdefault((kind, text), len(self.ids) + 1)

    def text(self, name_id: float | None) -> str:
        return next(text for (_, text), known in self.ids.items() if known == name_id)


def only(samples: Iterable[Sample], sample_type: type[T]) -> T:
    """The one sample of a type."""
    (sample,) = [sample for sample in samples if isinstance(sample, sample_type)]
    return sample


def until(condition: Callable[[], bool]) -> bool:
    """Ask until it is true; False when the deadline came first."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.002)
    return False


def write(root: Path, files: dict[str, str]) -> None:
    """Make a tree of files; a path that ends in a slash is a folder."""
    for name, text in files.items():
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(text, "utf-8")
