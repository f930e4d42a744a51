"""The producing end of a ring, inside the serving process.

Any number of threads write; none ever waits. A slot is claimed with one `next()` of an
`itertools.count` (atomic under the GIL, and a compare-and-swap in free-threaded builds
since 3.13) and filled with one `pack_into`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import threading
import time
from itertools import count
from pathlib import Path

from pinchpoint.ring.layout import (
    ANCHOR,
    ANCHOR_OFFSET,
    SLOT_COUNTS,
    SUFFIX,
    Header,
    pack_header,
    plan,
)
from pinchpoint.schema import wire
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import Sample


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _map(path: Path, size: int) -> mmap.mmap:
    """Map a file through a descriptor of its own: `mmap` keeps a duplicate of the one it is
    given, and a duplicate of the locked one would hold the lock after `close` and after a fork."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        populate = getattr(mmap, "MAP_POPULATE", 0)
        return mmap.mmap(descriptor, size, mmap.MAP_SHARED | populate)
    finally:
        os.close(descriptor)


class RingWriter:
    """One ring file, created, filled and at last removed by its process.

    Args:
        directory: where rings live; must exist and be writable.
        slot_counts: slots of the event, detail and name segments, powers of two.

    Raises:
        OSError: the file cannot be made or its blocks cannot be had (ENOSPC now, at
            start, instead of SIGBUS in the middle of a request).
    """

    def __init__(self, directory: Path, slot_counts: tuple[int, ...] = SLOT_COUNTS) -> None:
        self._segments = plan(slot_counts)
        header = Header(
            wire.VERSION,
            os.getpid(),
            time.monotonic_ns(),
            time.time_ns(),
            _boot_id(),
            self._segments,
        )
        # A random part, because process ids collide between containers that share the
        # directory. The final name appears only when the header is whole and locked.
        self.path = directory / f"{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
        draft = self.path.with_suffix(".tmp")
        self._fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._fd, 0, header.file_bytes)
            self._map = _map(draft, header.file_bytes)
            self._map[: len(pack_header(header))] = pack_header(header)
            self._anchor_sequence = 0
            self.refresh_anchor()
            os.rename(draft, self.path)
        except BaseException:
            os.close(self._fd)
            draft.unlink(missing_ok=True)
            raise
        self._claims = tuple(count(1).__next__ for _ in self._segments)
        self._names: dict[tuple[int, str], int] = {}
        self._names_lock = threading.Lock()
        self._bind()

    def _bind(self) -> None:
        """Publish what the hot path needs as plain attributes: no lookups per record."""
        events, details, _ = self._segments
        self.buffer = self._map
        self.claim_event = self._claims[wire.Segment.EVENTS]
        self.event_offset = events.offset
        self.event_mask = events.slot_count - 1
        self.claim_detail = self._claims[wire.Segment.DETAILS]
        self.detail_offset = details.offset
        self.detail_mask = details.slot_count - 1

    def refresh_anchor(self) -> None:
        """State both clocks anew, so that a reader can check that it shares them."""
        # Stores through a mapping leave the file's age alone, and `sweep` goes by that.
        try:
            os.utime(self.path)
        except OSError:
            pass
        self._anchor_sequence += 1
        sequence = self._anchor_sequence
        ANCHOR.pack_into(
            self._map, ANCHOR_OFFSET, sequence, time.monotonic_ns(), time.time_ns(), sequence
        )

    def write_sample(self, sample: Sample) -> None:
        """Append a sample."""
        frame = wire.sample_frame(sample)
        sequence = self.claim_detail()
        wire.SAMPLE.pack_into(
            self._map,
            self.detail_offset + ((sequence - 1) & self.detail_mask) * wire.DETAIL_BYTES,
            sequence,
            wire.KIND_SAMPLE,
            frame.code,
            frame.instance,
            frame.time_ns,
            frame.presence,
            *frame.values,
            sequence,
        )

    def intern(self, kind: NameKind, text: str, detail: int = 0) -> int:
        """The id of a name, written to the name table at first sight.

        Returns 0, which readers show as `_OTHER`, when the table is full.
        """
        key = (kind, text)
        known = self._names.get(key)
        if known is not None:
            return known
        with self._names_lock:
            known = self._names.get(key)
            if known is None:
                known = self._write_name(kind, text, detail)
        return known

    def _write_name(self, kind: NameKind, text: str, detail: int) -> int:
        segment = self._segments[wire.Segment.NAMES]
        if len(self._names) >= segment.slot_count:
            return 0
        name_id = self._claims[wire.Segment.NAMES]()
        encoded = wire.name_text(text)
        offset = segment.offset + (name_id - 1) * wire.NAME_BYTES
        wire.NAME.pack_into(
            self._map, offset, name_id, kind, detail, len(encoded), encoded, name_id
        )
        self._names[kind, text] = name_id
        return name_id

    def abandon(self) -> None:
        """After a fork, in the child: let go of the parent's file without touching it.

        The lock lives in the shared open file description, so the child must close its
        copy or the parent would look alive for ever. The mapping stays: another thread
        of the parent may be mid-write in the copied stack, and unmapping could fault.
        """
        os.close(self._fd)

    def close(self) -> None:
        """Release the lock. The file stays for the reader, which removes it when read."""
        os.close(self._fd)
