"""Protobuf as bytes, and what a hostile hand can do to them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from functools import lru_cache

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
LARGEST_FIELD = (1 << 29) - 1
# Readers stop at 100 levels.
DEEP = (90, 100, 101, 1_000, 20_000)
NOT_UTF8 = (b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80", b"\xe2\x82")
# What numbers and lengths can be replaced by: too long, too large, negative, without an end.
NUMBERS = (
    *(b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x7f", b"\xff" * 11, b"\x80" * 10 + b"\x01", b"\x80" * 5, b"\x80"),
    *(b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\x80\x80\x80\x80\x08", b"\xfe\xff\xff\xff\x0f"),
)


def varint(number: int) -> bytes:
    """A number of 0 or more."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def tag(field: int, wire_type: int) -> bytes:
    """What stands before a value."""
    return varint(field << 3 | wire_type)


def block(field: int, body: bytes) -> bytes:
    """A text, or a message, inside another one."""
    return tag(field, BYTES) + varint(len(body)) + body


@lru_cache
def nested(levels: int, *tags: bytes) -> bytes:
    """A message in a message in a message: so many levels of each of the tags, the first one outermost."""
    pieces: list[bytes] = []
    size = 0
    for _ in range(levels):
        for one in reversed(tags):
            head = one + varint(size)
            pieces.append(head)
            size += len(head)
    return b"".join(reversed(pieces))


def groups(levels: int, field: int, *, closed: bool = True) -> bytes:
    """A group in a group in a group."""
    return tag(field, GROUP) * levels + (tag(field, END_GROUP) * levels if closed else b"")


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """The bytes, with one to three things done to them."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        raw = rng.choice(MUTATIONS)(raw, rng)
    return raw


def _flip(raw: bytes, rng: random.Random) -> bytes:
    broken = bytearray(raw or b"\x00")
    for _ in range(rng.randrange(1, 5)):
        broken[rng.randrange(len(broken))] = rng.randrange(256)
    return bytes(broken)


def _cut(raw: bytes, rng: random.Random) -> bytes:
    return raw[: rng.randrange(len(raw))] if raw else raw


def _insert(raw: bytes, what: bytes, rng: random.Random) -> bytes:
    at = rng.choice((0, len(raw), rng.randrange(len(raw) + 1)))
    return raw[:at] + what + raw[at:]


def _unknown(raw: bytes, rng: random.Random) -> bytes:
    field = rng.choice((0, 1, 15, 16, 99, 19_000, LARGEST_FIELD))
    value = {
        VARINT: varint(rng.getrandbits(rng.choice((1, 32, 64)))),
        FIXED64: rng.randbytes(8),
        BYTES: varint(5) + rng.randbytes(5),
        GROUP: rng.choice((b"", tag(field, END_GROUP), tag(field + 1, END_GROUP))),
        END_GROUP: b"",
        FIXED32: rng.randbytes(4),
        6: b"",
        7: b"\x00",
    }
    kind = rng.choice(list(value))
    return _insert(raw, tag(field, kind) + value[kind], rng)


def _other_type(raw: bytes, rng: random.Random) -> bytes:
    # The first tag in the message, or any byte taken for one.
    at = rng.choice((0, rng.randrange(len(raw)))) if raw else 0
    return raw[:at] + bytes([(raw[at] if raw else 8) & 0xF8 | rng.randrange(8)]) + raw[at + 1 :]


def _number(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw)) if raw else 0
    return raw[:at] + rng.choice(NUMBERS) + raw[at + rng.randrange(2) :]


def _field_number(raw: bytes, rng: random.Random) -> bytes:
    return _insert(raw, tag(rng.randrange(1, 20), VARINT) + rng.choice(NUMBERS), rng)


def _deep(raw: bytes, rng: random.Random) -> bytes:
    levels, field = rng.choice(DEEP), rng.randrange(1, 20)
    return _insert(
        raw,
        rng.choice(
            (
                lambda: groups(levels, field),
                lambda: groups(levels, 2_000, closed=False),
                lambda: block(field, nested(levels, tag(field, BYTES))),
                # A Struct: fields, value, struct_value.
                lambda: block(field, nested(min(levels, 5_000), b"\x0a", b"\x12", b"\x2a")),
                # A Value: list_value, values.
                lambda: block(field, nested(levels, b"\x32", b"\x0a")),
            )
        )(),
        rng,
    )


def _not_text(raw: bytes, rng: random.Random) -> bytes:
    return _insert(raw, rng.choice((*(block(rng.randrange(1, 20), bad) for bad in NOT_UTF8), *NOT_UTF8)), rng)


def _many(raw: bytes, rng: random.Random) -> bytes:
    one = block(rng.randrange(1, 10), rng.choice((b"", b"\x08\x01", b"a", rng.randbytes(3))))
    return _insert(raw, one * rng.choice((20, 200, 2_000)), rng)


def _twice(raw: bytes, rng: random.Random) -> bytes:
    """Each field once more, or another oneof after the first: the last one counts, messages are merged."""
    return raw + _flip(raw, rng) if rng.random() < 0.5 else raw + raw


def _not_finite(raw: bytes, rng: random.Random) -> bytes:
    double = struct.pack("<d", rng.choice((float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.8e308 / 2)))
    return _insert(raw, tag(rng.randrange(1, 20), FIXED64) + double, rng)


def _spliced(raw: bytes, rng: random.Random) -> bytes:
    at, end = sorted((rng.randrange(len(raw) + 1), rng.randrange(len(raw) + 1)))
    return _insert(raw, raw[at:end] * rng.randrange(1, 4), rng)


def _noise(raw: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 5, 100)))


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _flip, _cut, _unknown, _other_type, _number, _field_number, _deep),
    *(_not_text, _many, _twice, _not_finite, _spliced, _noise),
)
