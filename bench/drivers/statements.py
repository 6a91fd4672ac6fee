"""The statements that are measured, in PostgreSQL's own $1 style; and values as text that PostgreSQL takes apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench.drivers.samples import DEFINITIONS, JOBS, LANE, QUEUED, SAVED, Row, Table

SEPARATOR = "\x1f"
#: Numbers never hold this word.
NONE = "None"
MORE = DEFINITIONS.columns[1:]
READ = ", ".join([*(f'j."{name}"' for name in SAVED.columns), *(f'd."{name}"' for name in MORE)])
PICKED = {
    "load": "j.job_id = ANY($1::bigint[]) ORDER BY j.job_id FOR NO KEY UPDATE OF j",
    "claim": f"j.lane_id = {LANE} AND j.state = {QUEUED} ORDER BY j.priority DESC, j.position LIMIT $1::bigint"
    " FOR NO KEY UPDATE OF j SKIP LOCKED",
}
FROM = "FROM jobs j JOIN definitions d USING (job_id)"

encode = json.JSONEncoder(separators=(",", ":"), default=bytes.hex).encode


def row_select(verb: str) -> str:
    """Jobs with their definitions, row for row."""
    return f"SELECT {READ} {FROM} WHERE {PICKED[verb]}"


def packed_select(verb: str) -> str:
    """The same as one JSON text. What is locked is read where it is locked: the rest would be older."""
    values = [f"""encode(p."{name}", 'hex')""" if kind == "bytea" else f'p."{name}"' for name, kind in _read()]
    return f"SELECT json_agg(json_build_array({', '.join(values)}))::text FROM ({row_select(verb)}) p"


def plain_insert(table: Table, count: int = 1) -> str:
    """INSERT of rows, a parameter for each value."""
    width = len(table.columns)
    numbered = (
        ", ".join(f"${row * width + n}::{kind}" for n, kind in enumerate(table.types, 1)) for row in range(count)
    )
    return f"INSERT INTO {table.name} ({table.names}) VALUES {', '.join(f'({one})' for one in numbered)}"


def unnest_insert(table: Table) -> str:
    """INSERT of rows, a parameter for each column."""
    return f"INSERT INTO {table.name} ({table.names}) SELECT * FROM {_unnest(table)}"


def json_insert(table: Table) -> str:
    """INSERT of rows, one parameter: a JSON array of arrays."""
    return f"INSERT INTO {table.name} ({table.names}) SELECT {_taken(table)} FROM jsonb_array_elements($1::jsonb) e"


def plain_update() -> str:
    """UPDATE of a row, if it has the revision before."""
    settings = ", ".join(f'"{c}" = ${n}::{k}' for n, (c, k) in enumerate(_saved(), 1) if n > 1)
    return f"UPDATE jobs SET {settings} WHERE job_id = $1::bigint AND revision = $7::bigint - 1"


def unnest_update() -> str:
    """UPDATE of rows, a parameter for each column."""
    return _update(f"{_unnest(SAVED)} AS v ({SAVED.names})")


def json_update() -> str:
    """UPDATE of rows, one parameter."""
    source = f"SELECT {_taken(SAVED)} FROM jsonb_array_elements($1::jsonb) e"
    return _update(f"({source}) AS v ({SAVED.names})")


def values_update(count: int) -> str:
    """UPDATE of rows, a parameter for each value."""
    width = len(SAVED.columns)
    numbered = (
        ", ".join(f"${row * width + n}::{kind}" for n, kind in enumerate(SAVED.types, 1)) for row in range(count)
    )
    return _update(f"(VALUES {', '.join(f'({one})' for one in numbered)}) AS v ({SAVED.names})")


def columns(rows: Sequence[Row]) -> list[list[Any]]:
    """Rows as columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def array_texts(table: Table, rows: Sequence[Row]) -> list[str]:
    """Each column as the text of an array, made by few calls that run in C."""
    return [_array(kind, column) for kind, column in zip(table.types, zip(*rows, strict=True), strict=True)]


def copy_text(rows: Sequence[Row]) -> str:
    """Rows as COPY reads them."""
    return "".join("\t".join(map(_field, row)) + "\n" for row in rows)


def _array(kind: str, column: Sequence[Any]) -> str:
    if kind == "bytea":
        return "{" + ",".join('"\\\\x' + one.hex() + '"' if one is not None else "NULL" for one in column) + "}"
    if kind != "text":
        return "{" + ",".join(map(str, column)).replace(NONE, "NULL") + "}"
    if None not in column:
        joined = SEPARATOR.join(column)
        if joined.count(SEPARATOR) == len(column) - 1:
            return '{"' + _quoted(joined).replace(SEPARATOR, '","') + '"}'
    return "{" + ",".join('"' + _quoted(one) + '"' if one is not None else "NULL" for one in column) + "}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return str(value)


def _read() -> list[tuple[str, str]]:
    kinds = dict(zip(JOBS.columns + DEFINITIONS.columns, JOBS.types + DEFINITIONS.types, strict=True))
    return [(name, kinds[name]) for name in (*SAVED.columns, *MORE)]


def _saved() -> list[tuple[str, str]]:
    return list(zip(SAVED.columns, SAVED.types, strict=True))


def _unnest(table: Table) -> str:
    return f"unnest({', '.join(f'${n}::{kind}[]' for n, kind in enumerate(table.types, 1))})"


def _taken(table: Table) -> str:
    return ", ".join(
        f"decode(e->>{n}, 'hex')" if kind == "bytea" else f"(e->>{n})::{kind}" for n, kind in enumerate(table.types)
    )


def _update(source: str) -> str:
    settings = ", ".join(f'"{name}" = v."{name}"' for name in SAVED.columns[1:])
    return f"UPDATE jobs SET {settings} FROM {source} WHERE jobs.job_id = v.job_id AND jobs.revision = v.revision - 1"
