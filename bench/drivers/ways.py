"""Each way to do what a store does, by psycopg and by asyncpg: what is done with a batch, by name."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from bench.drivers import statements
from bench.drivers.samples import DEFINITIONS, JOBS, SAVED, Row, Table

if TYPE_CHECKING:
    import asyncpg

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Batch:
    """What there is to do."""

    inserts: tuple[tuple[Table, Sequence[Row]], ...]
    saves: Sequence[Row]
    #: To load; and to claim so many.
    ids: Sequence[int]


Way = Callable[[Connection, Batch], Any]
AsyncWay = Callable[["asyncpg.Connection", Batch], Awaitable[object]]
TABLES = (JOBS, DEFINITIONS)


def raw(connection: Connection, *, binary: bool = False) -> psycopg.RawCursor[tuple[Any, ...]]:
    """A cursor for $1, which does not look for placeholders."""
    cursor = psycopg.RawCursor(connection)
    cursor.format = psycopg.pq.Format.BINARY if binary else psycopg.pq.Format.TEXT
    return cursor


def many(sql: Callable[[Table], str]) -> Way:
    """One after the other, in psycopg's pipeline."""

    def insert(connection: Connection, batch: Batch) -> None:
        for table, rows in batch.inserts:
            raw(connection).executemany(sql(table), rows)

    return insert


def values_insert(connection: Connection, batch: Batch) -> None:
    """One statement of many rows."""
    for table, rows in batch.inserts:
        sql = _VALUES(table, len(rows))
        raw(connection).execute(sql, [value for row in rows for value in row])


def lists_insert(connection: Connection, batch: Batch) -> None:
    """Arrays as psycopg makes them of lists."""
    for table, rows in batch.inserts:
        raw(connection).execute(_UNNEST[table], statements.columns(rows))


def texts_insert(connection: Connection, batch: Batch) -> None:
    """Arrays as texts of our own."""
    for table, rows in batch.inserts:
        raw(connection).execute(_UNNEST[table], statements.array_texts(table, rows))


def texts_pipeline_insert(connection: Connection, batch: Batch) -> None:
    """The same, both tables in one round trip."""
    with connection.pipeline():
        texts_insert(connection, batch)


def json_insert(connection: Connection, batch: Batch) -> None:
    """One JSON text."""
    for table, rows in batch.inserts:
        raw(connection).execute(_JSON[table], [statements.encode(rows)])


def copy_rows_insert(connection: Connection, batch: Batch) -> None:
    """COPY as psycopg writes rows."""
    for table, rows in batch.inserts:
        with connection.cursor().copy(_COPY[table]) as copy:
            for row in rows:
                copy.write_row(row)


def copy_text_insert(connection: Connection, batch: Batch) -> None:
    """COPY of a text of our own."""
    for table, rows in batch.inserts:
        with connection.cursor().copy(_COPY[table]) as copy:
            copy.write(statements.copy_text(rows))


def rows_read(verb: str, *, binary: bool) -> Way:
    """Rows as psycopg reads them."""
    sql = statements.row_select(verb)

    def read(connection: Connection, batch: Batch) -> list[tuple[Any, ...]]:
        return raw(connection, binary=binary).execute(sql, [_asked(verb, batch)]).fetchall()

    return read


def packed_read(verb: str) -> Way:
    """Rows as one JSON text, with blobs taken out of hex."""
    sql = statements.packed_select(verb)

    def read(connection: Connection, batch: Batch) -> list[list[Any]]:
        found = raw(connection).execute(sql, [_asked(verb, batch)]).fetchone()
        assert found
        rows: list[list[Any]] = json.loads(found[0])
        for row in rows:
            row[-3], row[-2], row[-1] = bytes.fromhex(row[-3]), bytes.fromhex(row[-2]), bytes.fromhex(row[-1])
        return rows

    return read


def _asked(verb: str, batch: Batch) -> object:
    ids = batch.ids
    return f"{{{','.join(map(str, ids))}}}" if verb == "load" else len(ids)


def many_save(connection: Connection, batch: Batch) -> None:
    """One after the other."""
    raw(connection).executemany(_UPDATE, batch.saves)


def values_save(connection: Connection, batch: Batch) -> None:
    """One statement of many rows."""
    sql = statements.values_update(len(batch.saves))
    raw(connection).execute(sql, [value for row in batch.saves for value in row])


def texts_save(connection: Connection, batch: Batch) -> None:
    """Arrays as texts of our own."""
    raw(connection).execute(_UNNEST_UPDATE, statements.array_texts(SAVED, batch.saves))


def lists_save(connection: Connection, batch: Batch) -> None:
    """Arrays as psycopg makes them."""
    raw(connection).execute(_UNNEST_UPDATE, statements.columns(batch.saves))


def json_save(connection: Connection, batch: Batch) -> None:
    """One JSON text."""
    raw(connection).execute(_JSON_UPDATE, [statements.encode(batch.saves)])


async def async_many_insert(connection: asyncpg.Connection, batch: Batch) -> None:
    """asyncpg's executemany."""
    for table, rows in batch.inserts:
        await connection.executemany(statements.plain_insert(table), rows)


async def async_unnest_insert(connection: asyncpg.Connection, batch: Batch) -> None:
    """Arrays as asyncpg makes them of lists."""
    for table, rows in batch.inserts:
        await connection.execute(statements.unnest_insert(table), *statements.columns(rows))


async def async_copy_insert(connection: asyncpg.Connection, batch: Batch) -> None:
    """asyncpg's binary COPY."""
    for table, rows in batch.inserts:
        await connection.copy_records_to_table(table.name, records=rows, columns=table.columns)


def async_rows_read(verb: str) -> AsyncWay:
    """Records as asyncpg reads them."""
    sql = statements.row_select(verb)

    async def read(connection: asyncpg.Connection, batch: Batch) -> list[tuple[Any, ...]]:
        ids = batch.ids
        return [tuple(row) for row in await connection.fetch(sql, ids if verb == "load" else len(ids))]

    return read


async def async_many_save(connection: asyncpg.Connection, batch: Batch) -> None:
    """asyncpg's executemany."""
    await connection.executemany(_UPDATE, batch.saves)


async def async_unnest_save(connection: asyncpg.Connection, batch: Batch) -> None:
    """Arrays as asyncpg makes them."""
    await connection.execute(_UNNEST_UPDATE, *statements.columns(batch.saves))


_VALUES = statements.plain_insert
_UNNEST = {table: statements.unnest_insert(table) for table in TABLES}
_JSON = {table: statements.json_insert(table) for table in TABLES}
_COPY = {table: f"COPY {table.name} ({table.names}) FROM STDIN" for table in TABLES}
_UPDATE = statements.plain_update()
_UNNEST_UPDATE = statements.unnest_update()
_JSON_UPDATE = statements.json_update()

#: By what is done, then by how.
PSYCOPG: dict[str, dict[str, Way]] = {
    "insert": {
        "executemany": many(statements.plain_insert),
        "multi-row VALUES": values_insert,
        "unnest, lists": lists_insert,
        "unnest, texts": texts_insert,
        "unnest, texts, pipeline": texts_pipeline_insert,
        "JSON": json_insert,
        "COPY, write_row": copy_rows_insert,
        "COPY, text": copy_text_insert,
    },
    "load": {
        "rows, text": rows_read("load", binary=False),
        "rows, binary": rows_read("load", binary=True),
        "JSON": packed_read("load"),
    },
    "claim": {
        "rows, text": rows_read("claim", binary=False),
        "rows, binary": rows_read("claim", binary=True),
        "JSON": packed_read("claim"),
    },
    "save": {
        "executemany": many_save,
        "multi-row VALUES": values_save,
        "unnest, lists": lists_save,
        "unnest, texts": texts_save,
        "JSON": json_save,
    },
}
ASYNCPG: dict[str, dict[str, AsyncWay]] = {
    "insert": {
        "asyncpg executemany": async_many_insert,
        "asyncpg unnest": async_unnest_insert,
        "asyncpg COPY": async_copy_insert,
    },
    "load": {"asyncpg rows": async_rows_read("load")},
    "claim": {"asyncpg rows": async_rows_read("claim")},
    "save": {"asyncpg executemany": async_many_save, "asyncpg unnest": async_unnest_save},
}
