"""A custom job's parameters, bound to its handler's signature: all that is wrong with them, said at once."""

from __future__ import annotations

import difflib
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from google.protobuf import struct_pb2

from towpath_worker.errors import InvalidInput

Param = inspect.Parameter


class Misfit(Exception):
    """A value that an annotation does not admit."""


@dataclass(frozen=True, slots=True)
class Takes:
    """What parameters a handler takes."""

    known: Mapping[str, Param]
    required: Sequence[str]
    hints: Mapping[str, Any]
    any_name: bool


@functools.lru_cache(maxsize=1000)
def _taken(function: Callable[..., Any]) -> Takes:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    known = {one.name: one for one in parameters if one.kind in (Param.POSITIONAL_OR_KEYWORD, Param.KEYWORD_ONLY)}
    return Takes(
        known=known,
        required=[one.name for one in known.values() if one.default is Param.empty],
        hints=_hints(function),
        any_name=any(one.kind is Param.VAR_KEYWORD for one in parameters),
    )


def bind(function: Callable[..., Any], params: struct_pb2.Struct) -> dict[str, Any]:
    """Keyword arguments for a handler from a job's parameters; InvalidInput names every wrong one.

    Numbers arrive as floats: whole ones become ints where the annotation says int, and where there is no annotation.
    """
    takes = _taken(function)
    wrong: list[str] = []
    bound: dict[str, Any] = {}
    for name, given in params.fields.items():
        value = to_python(given)
        if name not in takes.known:
            if takes.any_name:
                bound[name] = value
            else:
                wrong.append(_unknown(name, takes.known))
            continue
        try:
            bound[name] = fit(value, takes.hints.get(name, Any))
        except Misfit as misfit:
            wrong.append(f"parameter {name!r} {misfit}")
    wrong += [f"parameter {name!r} is missing" for name in takes.required if name not in params.fields]
    if wrong:
        raise InvalidInput("; ".join(wrong) + ".")
    return bound


def to_python(value: struct_pb2.Value) -> Any:
    """A JSON value as Python has it; whole numbers as int."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= 2**53 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {name: to_python(one) for name, one in value.struct_value.fields.items()}
        case "list_value":
            return [to_python(one) for one in value.list_value.values]
        case _:
            return None


def fit(value: Any, hint: Any) -> Any:
    """The value as the annotation wants it; Misfit where it cannot be. Annotations it does not know admit anything."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fit(value, arguments[0])
    if origin in (Union, types.UnionType):
        return _fit_any(value, arguments)
    if origin is Literal:
        if value in arguments:
            return value
        raise Misfit(f"must be one of {', '.join(map(repr, arguments))}, not {value!r}")
    if hint in SIMPLE:
        return SIMPLE[hint](value)
    if origin in (list, Sequence, tuple, set, frozenset) or hint in (list, tuple, set, frozenset):
        return _fit_list(value, origin or hint, arguments)
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, dict):
            raise Misfit(f"must be an object, not {_name(value)}")
        of = arguments[1] if len(arguments) == 2 else Any
        return {key: fit(one, of) for key, one in value.items()}
    return value


def _fit_any(value: Any, hints: Sequence[Any]) -> Any:
    # The exact type first: 3 for `float | int` stays 3, and "3" for `Path | str` a str.
    for hint in sorted(hints, key=lambda hint: type(value) is not hint):
        try:
            return fit(value, hint)
        except Misfit as misfit:
            last = misfit
    raise (
        last
        if len(hints) == 1
        else Misfit(f"must be {' or '.join(_hint_name(one) for one in hints)}, not {_name(value)}")
    )


def _fit_list(value: Any, kind: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list):
        raise Misfit(f"must be a list, not {_name(value)}")
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise Misfit(f"must have {len(arguments)} items, not {len(value)}")
        return tuple(fit(one, hint) for one, hint in zip(value, arguments, strict=True))
    of = arguments[0] if arguments else Any
    fitted = [fit(one, of) for one in value]
    return fitted if kind in (list, Sequence) else kind(fitted)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Misfit(f"must be a whole number, not {_name(value)}")
    if isinstance(value, float) and not value.is_integer():
        raise Misfit(f"must be a whole number, not {value!r}")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Misfit(f"must be a number, not {_name(value)}")
    return float(value)


def _exactly(kind: type, words: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise Misfit(f"must be {words}, not {_name(value)}")
        return value

    return check


_text = _exactly(str, "text")
SIMPLE: dict[Any, Callable[[Any], Any]] = {
    int: _whole,
    float: _number,
    bool: _exactly(bool, "true or false"),
    str: _text,
    Path: lambda value: Path(_text(value)),
    type(None): _exactly(type(None), "null"),
}


def _unknown(name: str, known: Mapping[str, Param]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"there is no parameter {name!r} (did you mean {close[0]!r}?)"
    return f"there is no parameter {name!r} ({'it takes ' + ', '.join(known) if known else 'it takes none'})"


def _name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def _hint_name(hint: Any) -> str:
    kind = get_origin(hint) or hint
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))


WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "text",
    type(None): "null",
    dict: "an object",
    list: "a list",
    tuple: "a list",
    set: "a list",
}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001
        # Annotations that exist for a type checker only.
        return {}
