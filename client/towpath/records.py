"""From messages to frozen dataclasses: fields of the same name, datetimes, timedeltas, dicts and enums in place of
protobuf's own. What a message lacks reads as None where the dataclass says so, else as its zero."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Self

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from towpath.enums import Named
from towpath.values import from_struct, from_value

Reader = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A message as a frozen value; `proto` is the message itself."""

    proto: Message = field(repr=False, compare=False)

    @classmethod
    def from_proto(cls, message: Message) -> Self:
        """The record of a message."""
        kinds: Any = (cls, type(message))
        return cls(proto=message, **{name: reader(message) for name, reader in _readers(*kinds)})

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, with the contract's field names: what grpcurl shows."""
        return json_format.MessageToDict(self.proto, preserving_proto_field_name=True)


def to_datetime(message: Any) -> datetime:
    """A Timestamp in UTC, to the microsecond."""
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def to_timedelta(message: Any) -> timedelta:
    """A Duration, to the microsecond."""
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


WELL_KNOWN: Mapping[str, Reader] = {
    "google.protobuf.Timestamp": to_datetime,
    "google.protobuf.Duration": to_timedelta,
    "google.protobuf.Struct": from_struct,
    "google.protobuf.Value": from_value,
}


@cache
def _readers(cls: Any, message_class: Any) -> tuple[tuple[str, Reader], ...]:
    hints = typing.get_type_hints(cls)
    described = message_class.DESCRIPTOR.fields_by_name
    return tuple(
        (one.name, _reader(described[one.name], hints[one.name]))
        for one in fields(cls)
        if one.name != "proto" and one.init
    )


def _reader(described: FieldDescriptor, hint: Any) -> Reader:
    """How to read one field of a message into a value that fits the hint."""
    name = described.name
    if described.message_type is not None and described.message_type.GetOptions().map_entry:
        return lambda message: dict(getattr(message, name))
    convert = _converter(described, hint)
    if described.is_repeated:
        return lambda message: tuple(map(convert, getattr(message, name)))
    if types.NoneType in typing.get_args(hint):
        return lambda message: convert(getattr(message, name)) if message.HasField(name) else None
    return lambda message: convert(getattr(message, name))


def _converter(described: FieldDescriptor, hint: Any) -> Reader:
    if described.enum_type is not None:
        kind = _named(hint)
        known = {
            value.number: kind[short]
            for value in described.enum_type.values
            if (short := value.name.removeprefix(kind.prefix())) in kind.__members__
        }
        return lambda number: known.get(number, kind["UNSPECIFIED"])
    if described.message_type is not None:
        if well_known := WELL_KNOWN.get(described.message_type.full_name):
            return well_known
        return _record(hint).from_proto
    return lambda value: value


def _candidates(hint: Any) -> list[Any]:
    return [hint, *(inner for part in typing.get_args(hint) for inner in _candidates(part))]


def _named(hint: Any) -> type[Named]:
    return next(part for part in _candidates(hint) if isinstance(part, type) and issubclass(part, Named))


def _record(hint: Any) -> type[Record]:
    return next(part for part in _candidates(hint) if isinstance(part, type) and issubclass(part, Record))
