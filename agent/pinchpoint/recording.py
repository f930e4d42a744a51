"""Recordings: what the agent was fed, kept in a file and fed again (`pinchpoint replay`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pinchpoint.errors import PinchpointError, UnreadableError
from pinchpoint.schema import wire
from pinchpoint.schema.frames import (
    BYTE_ORDER_MARK,
    FRAME,
    HEADER,
    MAGIC,
    PAYLOAD_BYTES,
    Frame,
    FrameKind,
    pack_header,
    unpack_frame,
)
from pinchpoint.schema.observations import Observation, Record, Tick

BUFFER_BYTES = 1 << 20
"""What may wait in memory between two flushes: about 7,000 requests."""

FLUSH_PERIOD_NS = 1_000_000_000

RECORDING_BYTES_MAX = 4 << 30
"""A recording stops here: about five hours at 1,000 requests a second."""


class Tee:
    """Writes a recording beside the pipeline. It may stop; it never stops the agent.

    Args:
        path: made anew; an earlier recording there is replaced.
        say: takes the one sentence that is said when the recording stops early.
        bytes_max: the recording's size at most.

    Raises:
        PinchpointError: the file cannot be made.
    """

    def __init__(
        self, path: Path, say: Callable[[str], None], bytes_max: int = RECORDING_BYTES_MAX
    ) -> None:
        self.stopped = False
        self._path = path
        self._say = say
        self._bytes_max = self._bytes_left = bytes_max
        self._pending = bytearray(pack_header())
        self._flushed_ns = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise PinchpointError(
                f"cannot record to {path} ({error.strerror}): choose a writable --record FILE"
            ) from error

    def write(self, frame: Frame) -> None:
        """Append a frame; a full buffer goes to the file at once."""
        if not self.stopped:
            self._pending += frame.pack()
            if len(self._pending) >= BUFFER_BYTES:
                self.flush()

    def tick(self, tick: Tick) -> None:
        """Flush when the last time is a second ago."""
        if tick.time_ns - self._flushed_ns >= FLUSH_PERIOD_NS:
            self._flushed_ns = tick.time_ns
            self.flush()

    def flush(self) -> None:
        """Hand what is waiting to the kernel."""
        if self.stopped:
            return
        if len(self._pending) > self._bytes_left:
            self._stop(f"it has reached its limit of {self._bytes_max >> 20} MiB")
            return
        try:
            while self._pending:
                written = os.write(self._fd, self._pending)
                del self._pending[:written]
                self._bytes_left -= written
        except OSError as error:
            self._stop(error.strerror or str(error))

    def close(self) -> None:
        """Flush and close; idempotent."""
        self.flush()
        self._release()

    def _stop(self, reason: str) -> None:
        self._release()
        self._say(
            f"the recording {self._path} ends here ({reason}); the agent runs on, and what was "
            "recorded so far can be replayed"
        )

    def _release(self) -> None:
        if not self.stopped:
            self.stopped = True
            self._pending.clear()
            os.close(self._fd)


class Recording:
    """A recording's observations, in the order in which the agent saw them.

    Args:
        path: the file.

    Raises:
        UnreadableError: not a recording that can be read here; while iterating: damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.missing_from: int | None = None
        """Byte offset of a last frame that is not whole, known after iterating. The agent was
        killed or the disk was full: everything before it is sound."""
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise UnreadableError(f"cannot read {path}: {error.strerror}") from error
        try:
            self._check_header()
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[Observation]:
        with self._file:
            offset = HEADER.size
            while head := self._read(FRAME.size):
                if len(head) < FRAME.size:
                    self.missing_from = offset
                    return
                kind_number, source, length = FRAME.unpack(head)
                kind = self._kind(kind_number, length, offset)
                payload = self._read(length)
                if len(payload) < length:
                    self.missing_from = offset
                    return
                yield Observation(source, self._record(kind, payload, offset))
                offset += FRAME.size + length

    def _check_header(self) -> None:
        header = self._read(HEADER.size)
        if header[: len(MAGIC)] != MAGIC:
            raise UnreadableError(
                f"{self.path} is no Pinchpoint recording: give a file made with --record"
            )
        if len(header) < HEADER.size:
            raise UnreadableError(f"{self.path} is empty: its recording ended before it began")
        _, version, _, mark = HEADER.unpack(header)
        if mark != BYTE_ORDER_MARK:
            raise UnreadableError(
                f"{self.path} was recorded on a machine of another byte order: read it there"
            )
        if version != wire.VERSION:
            raise UnreadableError(
                f"{self.path} has format {version}, this release reads format {wire.VERSION}: "
                "use the Pinchpoint release that recorded it"
            )

    def _read(self, length: int) -> bytes:
        try:
            return self._file.read(length)
        except OSError as error:
            raise UnreadableError(f"cannot read {self.path}: {error.strerror}") from error

    def _kind(self, number: int, length: int, offset: int) -> FrameKind:
        try:
            kind = FrameKind(number)
        except ValueError:
            raise self._damaged(offset, f"unknown kind of frame {number}") from None
        if PAYLOAD_BYTES[kind] != length:
            raise self._damaged(offset, f"{length} bytes in a frame of {PAYLOAD_BYTES[kind]}")
        return kind

    def _record(self, kind: FrameKind, payload: bytes, offset: int) -> Record:
        try:
            return unpack_frame(kind, payload)
        except wire.InvalidRecordError as error:
            raise self._damaged(offset, str(error)) from error

    def _damaged(self, offset: int, reason: str) -> UnreadableError:
        return UnreadableError(
            f"{self.path} is damaged at byte {offset} ({reason}): record it again"
        )
