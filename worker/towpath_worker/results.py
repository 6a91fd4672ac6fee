"""What a custom handler returned, as JSON has it; and results too large for a message, as files."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import hashlib
import json
import math
import uuid
from collections.abc import Mapping, Set
from pathlib import Path, PurePath
from typing import Any

from google.protobuf import json_format, struct_pb2

from towpath.v1 import job_pb2

# The scheduler takes messages of 4 MiB; a report is the result and some bytes more.
MAX_RESULT_BYTES = 3_000_000
# A level of JSON is two of protobuf, whose readers stop at 100.
MAX_DEPTH = 24
MAX_EXACT_INTEGER = 2**53


class UnsendableResult(TypeError):
    """A handler's return value that has no form in JSON."""


def to_value(result: Any) -> struct_pb2.Value:
    """A JSON value of None, bool, number, text, lists, mappings, dataclasses, numpy scalars and arrays, dates, paths.

    Numbers that are not finite become null; whole numbers past 2**53 become text, as they would lose digits.
    UnsendableResult names what cannot be sent, and where in the result it stands.
    """
    value = struct_pb2.Value()
    fill(value, result)
    return value


def fill(value: struct_pb2.Value, item: Any, where: str = "result", depth: int = 0) -> None:
    """Writes what `to_value` gives into a value that is empty."""
    if depth > MAX_DEPTH:
        raise UnsendableResult(
            f"{where[:200]} is nested more than {MAX_DEPTH} deep. Return something flatter, or write a file."
        )
    plain = _plain(item, where)
    match plain:
        case str():
            value.string_value = clean(plain)
        case None:
            value.null_value = struct_pb2.NULL_VALUE
        case bool():
            value.bool_value = plain
        case int() if abs(plain) > MAX_EXACT_INTEGER:
            value.string_value = str(plain)
        case int() | float():
            value.number_value = plain
        case dict():
            value.struct_value.SetInParent()
            fields = value.struct_value.fields
            for key, one in plain.items():
                # Two keys may be one as text: the last one counts, alone.
                name = _key(key, where)
                if name in fields:
                    del fields[name]
                fill(fields[name], one, f"{where}[{key!r}]", depth + 1)
        case _:
            value.list_value.SetInParent()
            values = value.list_value.values
            for at, one in enumerate(plain):
                fill(values.add(), one, f"{where}[{at}]", depth + 1)


def _plain(item: Any, where: str) -> Any:
    match item:
        case enum.Enum():
            return _plain(item.value, where)
        case None | bool() | int() | str() | dict() | list() | tuple():
            return item
        case float():
            return item if math.isfinite(item) else None
        case datetime.datetime() | datetime.date() | datetime.time():
            return item.isoformat()
        case datetime.timedelta():
            return item.total_seconds()
        case PurePath() | uuid.UUID() | decimal.Decimal():
            return str(item)
        case Mapping():
            return dict(item)
        case Set():
            return list(item)
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {one.name: getattr(item, one.name) for one in dataclasses.fields(item)}
    # numpy's scalars and arrays, pandas' Series and Index.
    if callable(to_list := getattr(item, "tolist", None)):
        return _plain(to_list(), where)
    kind = f"{type(item).__module__}.{type(item).__qualname__}".removeprefix("builtins.")
    raise UnsendableResult(
        f"{where[:200]} is of type {kind}, which has no form in JSON. Return numbers, text, lists, mappings or "
        "dataclasses; write anything else to a file and return its path."
    )


def _key(key: Any, where: str) -> str:
    match key:
        case str():
            return clean(key)
        case None | bool():
            return json.dumps(key)
        case int() | float():
            return str(key)
    if callable(to_list := getattr(key, "tolist", None)) or isinstance(key, enum.Enum):
        return _key(to_list() if callable(to_list) else key.value, where)
    raise UnsendableResult(f"{where[:200]} has a key that is a {type(key).__name__}. Use text.")


def clean(text: str) -> str:
    """The text with lone surrogates replaced: protobuf carries only valid UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def small_enough(result: job_pb2.JobResult, folder: Path, worker_id: str, name: str) -> job_pb2.JobResult:
    """The result itself, or, where it is too large for a message, a reference to a JSON file in the folder."""
    if result.ByteSize() <= MAX_RESULT_BYTES:
        return result
    text = json_format.MessageToJson(result, preserving_proto_field_name=True, indent=None).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(text)
    unfinished.replace(path)
    reference = job_pb2.ResultRef(
        worker_id=worker_id,
        path=str(path),
        media_type="application/json",
        size_bytes=len(text),
        sha256=hashlib.sha256(text).hexdigest(),
    )
    return job_pb2.JobResult(ref=reference)
