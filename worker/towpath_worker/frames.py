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


OUTCOMES = frozenset({Kind.SUCCEEDED, Kind.FAILED, Kind.STOPPED})


def encode(kind: Kind, payload: bytes = b"") -> bytes:
    """One frame."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"A frame of {len(payload)} bytes is larger than {MAX_PAYLOAD} bytes.")
    return HEADER.pack(kind, len(payload)) + payload


def write(descriptor: int, kind: Kind, payload: bytes = b"") -> None:
    """Writes one whole frame; blocks while the pipe is full."""
    view = memoryview(encode(kind, payload))
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
