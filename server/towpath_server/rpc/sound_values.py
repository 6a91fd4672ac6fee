"""Rules about one value as functions: the `buf.validate.field` rules that the protos use.

Each maker gives a function that says whether a value surely follows a rule; for a rule that is not known here it is one
that is never sure.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

# What it gives is true or false as Python takes it.
Test = Callable[[Any], object]
Makers = Mapping[str, Callable[[Any], Test]]

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
# Nanoseconds; beyond it a duration is none.
_WHOLE_SECOND = 10**9


def unsure(value: object) -> bool:
    """Never sure."""
    return False


def without_nul(text: str) -> bool:
    """Whether no NUL is in it."""
    return "\0" not in text


def all_of(tests: Sequence[Test]) -> Test | None:
    """All of the tests as one; None for none."""
    match tests:
        case []:
            return None
        case [only]:
            return only
        case [first, second]:
            return lambda value: first(value) and second(value)
    return lambda value: all(test(value) for test in tests)


def each(test: Test) -> Test:
    """The test of every item of a list."""
    return lambda items: all(map(test, items))


def rule(field: FieldDescriptor, kind: str, rules: Any) -> Test:
    """One entry of a field's rules, such as `string` or `repeated`."""
    match kind:
        case "string":
            makers: Makers = _STRING
        case "int32" | "int64" | "double":
            makers = {name: _bound(name) for name in _COMPARE}
        case "duration":
            makers = {name: _duration(name) for name in _COMPARE}
        case "enum":
            numbers = frozenset(value.number for value in field.enum_type.values) if field.enum_type else frozenset()
            makers = {"defined_only": lambda wanted: numbers.__contains__}
        case "repeated":
            makers = {**_REPEATED, "items": lambda items: each(_inner(field, items))}
        case "map":
            makers = {
                **_MAP,
                "keys": lambda keys: each(_inner(field, keys)),
                "values": lambda values: _of_values(each(_inner(field, values))),
            }
        case _:
            return unsure
    made = [makers[entry.name](value) if entry.name in makers else unsure for entry, value in rules.ListFields()]
    return all_of(made) or unsure


def _inner(field: FieldDescriptor, rules: Any) -> Test:
    return all_of([rule(field, entry.name, value) for entry, value in rules.ListFields()]) or unsure


def _of_values(test: Test) -> Test:
    return lambda entries: test(entries.values())


def _bound(name: str) -> Callable[[Any], Test]:
    compare = _COMPARE[name]
    # NaN compares with nothing: not sure.
    return lambda limit: lambda value: compare(value, limit)


def _duration(name: str) -> Callable[[Any], Test]:
    compare = _COMPARE[name]

    def maker(limit: Any) -> Test:
        most = limit.seconds, limit.nanos

        def is_within(value: Any) -> bool:
            seconds, nanos = value.seconds, value.nanos
            return seconds >= 0 and 0 <= nanos < _WHOLE_SECOND and compare((seconds, nanos), most)

        return is_within

    return maker


def _min_items(least: int) -> Test:
    return lambda items: len(items) >= least


def _max_items(most: int) -> Test:
    return lambda items: len(items) <= most


def _fullmatch(pattern: str) -> Test:
    # Without these it may match anywhere, and `$` alone also before a last line feed.
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return unsure
    return re.compile(pattern, re.ASCII).fullmatch


# Lengths of text are in characters, as Python counts them.
_STRING: Makers = {
    "min_len": _min_items,
    "max_len": _max_items,
    "pattern": _fullmatch,
}
_REPEATED: Makers = {
    "min_items": _min_items,
    "max_items": _max_items,
    "unique": lambda wanted: lambda items: len(set(items)) == len(items),
}
_MAP: Makers = {"min_pairs": _min_items, "max_pairs": _max_items}
