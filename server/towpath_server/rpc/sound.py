"""Whether a message is surely sound, in a few microseconds: the rules of its proto, made into functions once.

What is not sure goes to the validator, which knows every rule and says what is wrong. So nothing is refused here, and a
rule that is not known here costs time alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from towpath.v1 import model_pb2, table_pb2, worker_service_pb2
from towpath_server.rpc import ruled
from towpath_server.rpc.sound_values import Test, all_of, each, rule, unsure, without_nul

# Opaque to the scheduler: a NUL in there does no harm.
OPAQUE = frozenset(kind.DESCRIPTOR.full_name for kind in (struct_pb2.Struct, table_pb2.InlineTable, model_pb2.Model))
# Reports bring what handlers wrote.
_NUL_TAKEN = worker_service_pb2.ReportJobsRequest.DESCRIPTOR.full_name

# A list of what is set costs as much as so many looks.
FEW = 6
Tests = list[tuple[FieldDescriptor, Test]]

# What the expressions in the protos say, by their id.
EXPRESSIONS: Mapping[str, Test] = {
    "job.spec": lambda request: not request.HasField("job") or request.job.WhichOneof("spec") is not None,
    "predict.model": lambda spec: bool(spec.model_id or spec.model_name),
    "table.format": lambda table: not (table.columns or table.rows) if table.arrow else bool(table.columns),
}


def is_sure(message: Message, raw: bytes) -> bool:
    """Whether the rules of the protos surely hold, and no text has a NUL; `raw` is the message, serialized."""
    kind = message.DESCRIPTOR.full_name
    test = _request(kind, b"\0" in raw and kind != _NUL_TAKEN)
    return test is None or bool(test(message))


def prepare(kind: type[Message]) -> None:
    """Make the functions for messages of this kind."""
    for nul in (False, True):
        _request(kind.DESCRIPTOR.full_name, nul and kind.DESCRIPTOR.full_name != _NUL_TAKEN)


@cache
def _request(full_name: str, nul: bool) -> Test | None:
    return _message(full_name, nul, frozenset())


def _message(full_name: str, nul: bool, within: frozenset[str]) -> Test | None:
    """The test of a whole message; None where there is nothing to look at. `nul`: whether to look for it in text."""
    if full_name in within:
        return unsure
    within |= {full_name}
    kind = ruled.pool().FindMessageTypeByName(full_name)
    nul = nul and full_name not in OPAQUE
    if not _is_looked_at(kind, nul, set()):
        return None
    tests = [(field, test) for field in kind.fields if (test := _field(field, nul, within)) is not None]
    needed = [field for field in kind.fields if ruled.rules_of(field, "field").required]
    whole = [_is_set(field) for field in needed] + _expressions(kind) + _oneofs(kind)
    return (_one_by_one if len(tests) <= FEW else _as_listed)(tests, whole)


def _one_by_one(tests: Tests, whole: list[Test]) -> Test:
    plain = [(field.name, test) for field, test in tests if not field.has_presence]
    optional = [(field.name, test) for field, test in tests if field.has_presence]

    def is_sound(message: Any) -> bool:
        for name, test in plain:
            if not test(getattr(message, name)):
                return False
        for name, test in optional:
            if message.HasField(name) and not test(getattr(message, name)):
                return False
        for test in whole:  # noqa: SIM110 - a generator costs as much as all tests
            if not test(message):
                return False
        return True

    return is_sound


def _as_listed(tests: Tests, whole: list[Test]) -> Test:
    by_number = {field.number: test for field, test in tests}
    unset_is_unsound = [_is_set(field) for field, test in tests if not (field.has_presence or test(_unset(field)))]
    whole = unset_is_unsound + whole

    def is_sound(message: Any) -> bool:
        for field, value in message.ListFields():
            test = by_number.get(field.number)
            if test is not None and not test(value):
                return False
        for test in whole:  # noqa: SIM110
            if not test(message):
                return False
        return True

    return is_sound


def _is_looked_at(kind: Descriptor, nul: bool, seen: set[str]) -> bool:
    # Messages that hold themselves, such as Struct, have no rules.
    if kind.full_name in seen:
        return False
    seen.add(kind.full_name)
    nul = nul and kind.full_name not in OPAQUE
    return bool(_expressions(kind) or _oneofs(kind)) or any(
        ruled.rules_of(field, "field").ListFields()
        or (nul and field.type == FieldDescriptor.TYPE_STRING)
        or (field.message_type is not None and _is_looked_at(field.message_type, nul, seen))
        for field in kind.fields
    )


def _expressions(kind: Descriptor) -> list[Test]:
    rules = ruled.rules_of(kind, "message")
    known = [EXPRESSIONS.get(expression.id, unsure) for expression in rules.cel]
    return known + [unsure for entry, _ in rules.ListFields() if entry.name != "cel"]


def _oneofs(kind: Descriptor) -> list[Test]:
    return [
        _is_chosen(oneof.name) if entry.name == "required" else unsure
        for oneof in kind.oneofs
        for entry, _ in ruled.rules_of(oneof, "oneof").ListFields()
    ]


def _field(field: FieldDescriptor, nul: bool, within: frozenset[str]) -> Test | None:
    rules = ruled.rules_of(field, "field").ListFields()
    tests = [rule(field, entry.name, value) for entry, value in rules if entry.name != "required"]
    inner = _inner(field, nul, within)
    return all_of([*tests, inner] if inner is not None else tests)


def _inner(field: FieldDescriptor, nul: bool, within: frozenset[str]) -> Test | None:
    """What holds for all that is in the field, whatever its own rules are."""
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key, value = (_inner(kind.fields_by_name[name], nul, within) for name in ("key", "value"))
        return all_of([*([each(key)] if key else []), *([_each_value(value)] if value else [])])
    if kind is not None:
        test = _message(kind.full_name, nul, within)
    else:
        test = without_nul if nul and field.type == FieldDescriptor.TYPE_STRING else None
    return each(test) if test is not None and field.is_repeated else test


def _each_value(test: Test) -> Test:
    return lambda entries: all(map(test, entries.values()))


def _unset(field: FieldDescriptor) -> Any:
    return {} if field.is_repeated else field.default_value


def _is_set(field: FieldDescriptor) -> Test:
    name = field.name
    return (
        (lambda message: message.HasField(name)) if field.has_presence else lambda message: bool(getattr(message, name))
    )


def _is_chosen(oneof: str) -> Test:
    return lambda message: message.WhichOneof(oneof) is not None
