"""SQL text: the named queries of sqlite/sql, and statements for many rows at once.

A batch is one statement. `executemany` takes and gives up the interpreter's lock for each row, and while the event loop
is busy that costs a hundred times the write itself.
"""

# Only names from this package go into the text of a statement; values are bound.
# ruff: noqa: S608
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import TypeVar

T = TypeVar("T")

LARGEST_CHUNK = 256
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def named(file: str) -> dict[str, str]:
    """The queries of `sqlite/sql/<file>.sql` by name."""
    text = (files("towpath_server.store.sqlite") / "sql" / f"{file}.sql").read_text("utf-8")
    parts = _NAME.split(text)
    bodies = ("\n".join(line for line in body.splitlines() if not line.startswith("--")) for body in parts[2::2])
    return dict(zip(parts[1::2], (body.strip() for body in bodies), strict=True))


def chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """The rows in pieces whose sizes are powers of two, so that few statements need to be prepared and kept."""
    start, size = 0, LARGEST_CHUNK
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        yield rows[start : start + size]
        start += size


@cache
def insert(table: str, columns: tuple[str, ...], count: int, on_conflict: str = "") -> str:
    """INSERT of `count` rows."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {_values(len(columns), count)} {on_conflict}"


@cache
def upsert(table: str, columns: tuple[str, ...], key: int, count: int) -> str:
    """INSERT of `count` rows that replaces those with the same key, which is the first `key` columns."""
    settings = ", ".join(f"{column} = excluded.{column}" for column in columns[key:])
    return insert(table, columns, count, f"ON CONFLICT ({', '.join(columns[:key])}) DO UPDATE SET {settings}")


@cache
def update(table: str, columns: tuple[str, ...], count: int, condition: str = "true") -> str:
    """UPDATE of `count` rows by their first column; `condition` may name the new values `v.column1` and so on."""
    settings = ", ".join(f"{column} = v.column{number}" for number, column in enumerate(columns[1:], 2))
    values = f"(VALUES {_values(len(columns), count)}) v"
    return f"UPDATE {table} SET {settings} FROM {values} WHERE {table}.{columns[0]} = v.column1 AND {condition}"


@cache
def delete(table: str, key: tuple[str, ...], count: int) -> str:
    """DELETE of `count` rows by their key."""
    return f"DELETE FROM {table} WHERE ({', '.join(key)}) IN (VALUES {_values(len(key), count)})"


@cache
def select(table: str, columns: tuple[str, ...], key: int, count: int | None = None) -> str:
    """SELECT of all rows, or of `count` by their key, which is the first `key` columns, in its order."""
    names = ", ".join(columns[:key])
    wanted = "" if count is None else f"WHERE ({names}) IN (VALUES {_values(key, count)})"
    return f"SELECT {', '.join(columns)} FROM {table} {wanted} ORDER BY {names}"


def flat(chunk: Sequence[Sequence[object]]) -> list[object]:
    """The parameters of a statement for these rows."""
    return [value for row in chunk for value in row]


def _values(width: int, count: int) -> str:
    row = f"({', '.join('?' * width)})"
    return ", ".join([row] * count)
