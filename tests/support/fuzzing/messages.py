"""Requests of every RPC, read from the descriptors: values that are sound, odd or hostile, and then broken bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from support.fuzzing.wire import mutated
from towpath_server.rpc.server import SERVICES

OTHERS = (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
# Of what a client sends, no more than 100 bytes may come back in an error: a piece of this that is longer tells.
CANARY = "".join(f"{number:04x}" for number in range(0x1000, 0x1100))
ODD_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "a\r\nb",
        "\n",
        "\x1b[31m",
        "\u202egnp",
        "\u200b",
        "é" * 60,
        "\U0001f6a2" * 101,
        "x" * 101,
    ),
    *("../../etc/passwd", "/proc/self/environ", "{job_id}", "{0.__class__}", "%s%n", "' OR 1=1 --", "a" * 5_000),
    *("${x}", "<script>", "NaN", "-1", "\ufffe", "job_", "wkr_zzzzzzzzzzzzz", "tok_8000000000000", CANARY),
    *("x" * 101, CANARY * 3),
)
GOOD_TEXTS = ("default", "echo", "a", "flights@3", "y", "create_time desc", "x-1")
ODD_NUMBERS = (0, 1, -1, 2, 3, 7, 99, 1000, 1001, 2**31 - 1, -(2**31), 315_576_000_001, 2**53, 2**63 - 1, -(2**63))
ODD_DOUBLES = (0.0, -0.0, 0.5, 1.0, -1.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
SMALL = 32
# What is sound reaches deepest: so many requests stay whole, and so many values in one are odd.
UNBROKEN = 0.2
ONE_ODD = 0.3
ODD = (0.0, 0.0, 0.03, 0.3)


@dataclass(frozen=True)
class Request:
    """One request, as bytes; in a stream one message after the other."""

    method: MethodDescriptor
    messages: tuple[bytes, ...]

    @property
    def path(self) -> str:
        """The method as it is called."""
        return path_of(self.method)


@dataclass
class Words:
    """What is known by name: field names, and values for them that exist."""

    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    odd: float = 0.0

    def text(self, name: str, rng: random.Random) -> str:
        """A value for a field of this name."""
        if rng.random() < self.odd:
            return rng.choice(ODD_TEXTS)
        return rng.choice(self.known.get(name, GOOD_TEXTS))


def path_of(method: MethodDescriptor) -> str:
    """The method as it is called."""
    return f"/{method.containing_service.full_name}/{method.name}"


def methods() -> list[MethodDescriptor]:
    """Every RPC that the server serves."""
    pool = descriptor_pool.Default()
    ours = [pool.FindServiceByName(name) for name in SERVICES]
    others: list[Any] = [service for file in OTHERS for service in file.services_by_name.values()]
    return [method for service in (*ours, *others) for method in service.methods]


def request(method: MethodDescriptor, words: Words, rng: random.Random) -> Request:
    """A request of this method."""
    count = rng.choice((1, 2, 3)) if method.client_streaming else 1
    return Request(method, tuple(_raw(method, words, rng) for _ in range(count)))


def _raw(method: MethodDescriptor, words: Words, rng: random.Random) -> bytes:
    message = message_factory.GetMessageClass(method.input_type)()
    words.odd = rng.choice(ODD)
    fill(message, words, rng)
    draw = rng.random()
    if draw < ONE_ODD:
        _make_one_odd(message, words, rng)
    raw = message.SerializeToString()
    return raw if draw < ONE_ODD + UNBROKEN else mutated(raw, rng)


def _make_one_odd(message: Any, words: Words, rng: random.Random) -> None:
    """Of a request that is otherwise sound as a rule, this one value is not: all checks but one let it through."""
    places = list(_scalars(message))
    if places:
        inside, one = rng.choice(places)
        words.odd = 1.0
        setattr(inside, one.name, scalar(one, words, rng))


def _scalars(message: Any) -> Iterator[tuple[Any, Any]]:
    for one, value in message.ListFields():
        entries = one.message_type is not None and one.message_type.GetOptions().map_entry
        if one.message_type is None and not one.is_repeated:
            yield message, one
        elif one.message_type is not None and not entries:
            for inside in value if one.is_repeated else [value]:
                yield from _scalars(inside)


def fill(message: Any, words: Words, rng: random.Random, depth: int = 0) -> None:
    """Fill any of its fields."""
    share = 0.9 if depth == 0 else rng.choice((0.05, 0.2, 0.6))
    for one in message.DESCRIPTOR.fields:
        # Ids are most of what leads anywhere.
        much = one.name.endswith(("_id", "_token", "type", "job", "spec")) or one.name in words.known
        if rng.random() > (0.95 if much else share) or (depth > 6 and one.message_type is not None):
            continue
        if one.message_type is not None and one.message_type.GetOptions().map_entry:
            _fill_map(getattr(message, one.name), one, words, rng, depth)
        elif one.message_type is not None:
            values = getattr(message, one.name)
            for inside in [values.add() for _ in range(rng.choice((1, 1, 2)))] if one.is_repeated else [values]:
                inside.SetInParent()
                fill(inside, words, rng, depth + 1)
        elif one.is_repeated:
            getattr(message, one.name).extend(scalar(one, words, rng) for _ in range(rng.choice((1, 2, 3))))
        else:
            setattr(message, one.name, scalar(one, words, rng))


def _fill_map(entries: Any, one: Any, words: Words, rng: random.Random, depth: int) -> None:
    key, value = (one.message_type.fields_by_name[name] for name in ("key", "value"))
    for _ in range(rng.choice((1, 2, 17, 70)) if rng.random() < words.odd else 1):
        at = scalar(key, words, rng)
        if value.message_type is None:
            entries[at] = scalar(value, words, rng)
        else:
            fill(entries[at], words, rng, depth + 1)


def scalar(one: Any, words: Words, rng: random.Random) -> Any:
    """A value of the field's type."""
    match one.type:
        case FieldDescriptor.TYPE_STRING:
            return words.text(one.name, rng)
        case FieldDescriptor.TYPE_BYTES:
            return rng.choice((b"", b"\0", b"ARROW1", rng.randbytes(30)))
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            return rng.choice(ODD_DOUBLES if rng.random() < words.odd else (0.2, 0.5, 1.0))
        case FieldDescriptor.TYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            known = [value.number for value in one.enum_type.values]
            return rng.choice((99, -1, 2**31 - 1) if rng.random() < words.odd else known)
    if rng.random() >= words.odd:
        return rng.randrange(1, SMALL)
    return rng.choice([number for number in ODD_NUMBERS if _fits(number, one.type)])


_SIGNED = (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32)
_LONG = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64)


def _fits(number: int, kind: int) -> bool:
    if kind in _SIGNED:
        return -(2**31) <= number < 2**31
    if kind in _LONG:
        return True
    return 0 <= number < 2**32
