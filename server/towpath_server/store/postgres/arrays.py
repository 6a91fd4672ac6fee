"""Columns of rows as PostgreSQL's text for arrays: a batch of any size is one statement with one value a column.

To dump the values one by one, as the driver does with a list, takes several times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

# U+FFFF is no character; where it comes all the same, it is written as itself and a 1.
_ESCAPE = "\uffff"


def numbers(values: Iterable[int | None]) -> str:
    """An array of numbers."""
    return _braced(["NULL" if value is None else str(value) for value in values])


def texts(values: Iterable[str | None]) -> str:
    """An array of texts."""
    return _braced(["NULL" if value is None else _quoted(value) for value in values])


def blobs(values: Iterable[bytes | None]) -> str:
    """An array of bytea."""
    return _braced(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values])


def _braced(values: Sequence[str]) -> str:
    return f"{{{','.join(values)}}}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


KINDS: dict[str, Callable[[Iterable[Any]], str]] = {
    "bigint": numbers,
    "smallint": numbers,
    "text": texts,
    "bytea": blobs,
}


def columns(types: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """The rows as one array a column."""
    return [KINDS[kind](column) for kind, column in zip(types, zip(*rows, strict=True), strict=True)]


def keep_nul(text: str) -> str:
    """Any text as one without NUL, which PostgreSQL does not take."""
    if "\x00" in text or _ESCAPE in text:
        return text.replace(_ESCAPE, f"{_ESCAPE}1").replace("\x00", f"{_ESCAPE}0")
    return text


def give_nul(text: str) -> str:
    """The text of `keep_nul`."""
    if _ESCAPE in text:
        return text.replace(f"{_ESCAPE}0", "\x00").replace(f"{_ESCAPE}1", _ESCAPE)
    return text
