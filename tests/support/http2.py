"""The bytes of one gRPC call, as a client writes them: so that a test can send the first so many of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import IO

from google.protobuf.message import Message

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
STREAM = 1
# Small, so that a message lies in more than one frame.
LARGEST_FRAME = 100


def opening(method: str, address: str, metadata: Mapping[str, str], *, window: int = 65_535) -> bytes:
    """All that comes before the first message. With a `window` of 0 the server may send no message at all."""
    settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + headers(method, address, metadata)


def greeting() -> bytes:
    """What a client says first, with settings that change nothing."""
    return PREFACE + frame(SETTINGS, 0, 0, b"")


def headers(method: str, address: str, metadata: Mapping[str, str], *, stream: int = STREAM) -> bytes:
    """A call begins on this stream, an odd number that is higher than those before."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": address,
        "te": "trailers",
        "content-type": "application/grpc",
        **metadata,
    }
    block = b"".join(field(name, value) for name, value in fields.items())
    return frame(HEADERS, END_HEADERS, stream, block)


def reset(stream: int) -> bytes:
    """The client gives the call up."""
    return frame(RESET, 0, stream, struct.pack(">I", 8))


def field(name: str, value: str) -> bytes:
    """One header, as it stands in a block of them."""
    return b"\x00" + _text(name) + _text(value)


def message(sent: Message) -> bytes:
    """One message in as many frames as it takes."""
    raw = sent.SerializeToString()
    return b"".join(_pieces(b"\x00" + struct.pack(">I", len(raw)) + raw))


def closing() -> bytes:
    """The client has nothing more to say."""
    return frame(DATA, END_STREAM, STREAM, b"")


def read_frame(answer: IO[bytes]) -> int:
    """The kind of the next frame that the server sends."""
    return read_whole_frame(answer)[0]


def read_whole_frame(answer: IO[bytes]) -> tuple[int, bytes]:
    """The same, with what it holds. Raises EOFError where the server has closed the connection."""
    header = answer.read(9)
    if len(header) < 9:
        raise EOFError
    return header[3], answer.read(int.from_bytes(header[:3], "big"))


def _pieces(raw: bytes) -> Iterable[bytes]:
    for start in range(0, len(raw), LARGEST_FRAME):
        yield frame(DATA, 0, STREAM, raw[start : start + LARGEST_FRAME])


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of any kind."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    """A string of HPACK without its compression (RFC 7541, 5.2), shorter than 254 bytes."""
    raw = text.encode()
    assert len(raw) < 127 + 128
    length = bytes([len(raw)]) if len(raw) < 127 else bytes([127, len(raw) - 127])
    return length + raw
