"""What a worker and its child processes say to each other: one byte of kind, four of length, then the payload."""

from __future__ import annotations

import enum
import json
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any

HEADER = struct.Struct(">BI")
MAX_PAYLOAD = 64 * 1024 * 1024


class Kind(enum.IntEnum):
    """The kinds of frames."""

    # Down: the child's setup; one job; the wish that it stops.
    SETUP = 1
    START = 2
    CANCEL = 3
    # Up: its job types; ready for a job; what the job tells; the one outcome; whether it can be used again.
    TYPES = 10
    READY = 11
    PROGRESS = 12
    LOG = 13
    SUCCEEDED = 14
    FAILED = 15
    STOPPED = 16
    IDLE = 17


# What IDLE says: whether the process may run another job, and the seconds of CPU time that the last one took.
IDLE = struct.Struct(">?d")
OUTCOMES = frozenset({Kind.SUCCEEDED, Kind.FAILED, Kind.STOPPED})


def encode(kind: Kind, payload: bytes = b"") -> bytes:
    """One frame."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"A frame of {len(payload)} bytes is larger than {MAX_PAYLOAD} bytes.")
    return HEADER.pack(kind, len(payload)) + payload


def write(descriptor: int, *frames: bytes) -> None:
    """Writes encoded frames, whole and in one piece if that fits; blocks while the pipe is full."""
    view = memoryview(b"".join(frames))
    while view:
        view = view[os.write(descriptor, view) :]


def read(descriptor: int) -> Iterator[tuple[Kind, bytes]]:
    """The frames of a pipe, until its other end is closed. A frame cut short is dropped."""
    while (header := _read_exactly(descriptor, HEADER.size)) is not None:
        kind, length = HEADER.unpack(header)
        if length > MAX_PAYLOAD:
            raise ValueError(f"A frame claims {length} bytes.")
        payload = _read_exactly(descriptor, length)
        if payload is None:
            return
        yield Kind(kind), payload


class Feed:
    """Frames out of pieces, wherever these were cut."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def take(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """The frames that are whole now. ValueError for what is none."""
        self._rest += data
        at = 0
        while len(self._rest) - at >= HEADER.size:
            kind, length = HEADER.unpack_from(self._rest, at)
            if length > MAX_PAYLOAD:
                raise ValueError(f"A frame claims {length} bytes.")
            end = at + HEADER.size + length
            if end > len(self._rest):
                break
            payload = bytes(self._rest[at + HEADER.size : end])
            at = end
            yield Kind(kind), payload
        del self._rest[:at]


def pack(facts: Mapping[str, Any], body: bytes = b"") -> bytes:
    """A payload of facts as one line of JSON, and a body of bytes."""
    return json.dumps(facts).encode() + b"\n" + body


def unpack(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """The facts and the body of a payload."""
    line, _, body = payload.partition(b"\n")
    facts: dict[str, Any] = json.loads(line)
    return facts, body


def _read_exactly(descriptor: int, count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        part = os.read(descriptor, min(count, 1024 * 1024))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
