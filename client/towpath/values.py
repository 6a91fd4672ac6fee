"""Python values to protobuf's Struct and Value and back, strictly: what JSON cannot carry is refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from towpath.errors import InvalidArgument, Violation

EXACT = 2**53
# protobuf reads 100 messages deep, and a level of a Struct takes three.
DEEPEST = 30


def to_struct(given: Mapping[str, Any], name: str) -> struct_pb2.Struct:
    """A mapping as a Struct; `name` is what errors call it."""
    struct = struct_pb2.Struct()
    fill_struct(struct, given, name)
    return struct


def fill_struct(struct: struct_pb2.Struct, given: Mapping[str, Any], name: str) -> None:
    """The same, into a Struct that is there."""
    _fill_struct(struct, given, name, 1)


def to_value(given: Any, name: str) -> struct_pb2.Value:
    """Any JSON-like value; also dates, paths, enums, tuples and numpy scalars."""
    value = struct_pb2.Value()
    _fill(value, given, name, 1)
    return value


def to_list_value(given: Iterable[Any], name: str) -> struct_pb2.ListValue:
    """A sequence as a ListValue."""
    listed = struct_pb2.ListValue()
    _fill_list(listed, given, name, 1)
    return listed


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """A Struct as a dict."""
    return {key: from_value(value) for key, value in struct.fields.items()}


def from_value(value: struct_pb2.Value) -> Any:
    """A Value as JSON has it; whole numbers come back as int."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= EXACT else number
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [from_value(item) for item in value.list_value.values]
    return None


def to_duration(seconds: float | timedelta, name: str) -> Duration:
    """Seconds as a Duration."""
    length = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if isinstance(length, bool) or not isinstance(length, int | float) or not math.isfinite(length):
        raise _refused(name, "give seconds, as a number")
    duration = Duration()
    try:
        duration.FromMicroseconds(round(length * 1_000_000))
    except (ValueError, OverflowError):
        raise _refused(name, "is too long") from None
    return duration


def to_timestamp(moment: datetime, name: str) -> Timestamp:
    """A moment as a Timestamp. It must say its time zone."""
    if moment.tzinfo is None:
        raise _refused(name, "give a datetime with a time zone, as in datetime.now(UTC)")
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _fill_struct(struct: struct_pb2.Struct, given: Mapping[str, Any], name: str, depth: int) -> None:
    fields = struct.fields
    for key, item in given.items():
        if not isinstance(key, str):
            raise _refused(name, f"its keys must be text, not {type(key).__name__}")
        if depth >= DEEPEST or not _put_plain(fields[key], item):
            _fill(fields[key], item, f"{name}.{key}", depth + 1)
    # An empty dict must still be set.
    struct.SetInParent()


def _fill_list(listed: struct_pb2.ListValue, given: Iterable[Any], name: str, depth: int) -> None:
    add = listed.values.add
    for index, item in enumerate(given):
        value = add()
        if depth >= DEEPEST or not _put_plain(value, item):
            _fill(value, item, f"{name}[{index}]", depth + 1)


def _put_plain(value: struct_pb2.Value, given: Any) -> bool:
    """Writes what is most common and right, without a name for errors; whether it was."""
    kind = type(given)
    if kind is str:
        try:
            value.string_value = given
        except UnicodeEncodeError:
            return False
    elif kind is float:
        if not math.isfinite(given):
            return False
        value.number_value = given
    elif kind is bool:
        value.bool_value = given
    elif kind is int:
        if not -EXACT <= given <= EXACT:
            return False
        value.number_value = given
    else:
        return False
    return True


def _fill(value: struct_pb2.Value, given: Any, name: str, depth: int) -> None:
    if depth > DEEPEST:
        raise _refused(name, f"is nested more than {DEEPEST} levels deep")
    match given:
        case None:
            value.null_value = struct_pb2.NULL_VALUE
        case bool():
            value.bool_value = given
        case Enum():
            _fill(value, given.value, name, depth)
        case str():
            value.string_value = _text(given, name)
        case int() | float():
            value.number_value = _number(given, name)
        case Mapping():
            _fill_struct(value.struct_value, given, name, depth)
        case list() | tuple():
            value.list_value.SetInParent()
            _fill_list(value.list_value, given, name, depth)
        case datetime() | date() | time():
            value.string_value = given.isoformat()
        case PurePath():
            value.string_value = str(given)
        case _:
            _fill_foreign(value, given, name, depth)


def _fill_foreign(value: struct_pb2.Value, given: Any, name: str, depth: int) -> None:
    """numpy's scalars and arrays, by what they can do, so that numpy is never imported."""
    if callable(convert := getattr(given, "tolist", None)):
        plain = convert()
        if type(plain) is not type(given):
            _fill(value, plain, name, depth)
            return
    raise _refused(name, f"cannot send a {type(given).__name__}; give text, numbers, bools, None, lists or dicts")


def _number(given: float, name: str) -> float:
    if isinstance(given, int) and abs(given) > EXACT:
        raise _refused(name, "is a whole number past 2**53, which JSON would round; send it as text")
    if not math.isfinite(given):
        raise _refused(name, f"is {given}, which JSON does not have; send None")
    return float(given)


def _text(given: str, name: str) -> str:
    try:
        given.encode()
    except UnicodeEncodeError:
        raise _refused(name, "holds half of a surrogate pair, which UTF-8 does not have") from None
    return given


def _refused(name: str, description: str) -> InvalidArgument:
    return InvalidArgument(f"{name}: {description}.", violations=(Violation(name, description),))
