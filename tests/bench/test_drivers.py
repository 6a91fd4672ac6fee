"""Ways that are measured beside each other do the same: what one writes, every one reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.drivers import samples, ways
from bench.drivers.ways import PSYCOPG, Batch
from support.postgres import psycopg, shared

IDS = range(1, 21)
ODD = 'a"b\\c,{d}\t\n\r' + "\N{SNOWMAN} \x1f NULL None"
CLEAR = "DELETE FROM definitions; DELETE FROM jobs"


@pytest.fixture(scope="module")
def connection() -> Iterator[ways.Connection]:
    server = shared()
    name = server.database()
    with psycopg.connect(server.url(name), autocommit=True) as opened:
        opened.execute(samples.SCHEMA)
        yield opened
    server.drop(name)


def batch() -> Batch:
    jobs = [samples.job_row(number) for number in IDS]
    definitions = [samples.definition_row(number) for number in IDS]
    definitions[3] = (*definitions[3][:3], ODD, *definitions[3][4:11], None, *definitions[3][12:-1], b"")
    return Batch(
        ((samples.JOBS, jobs), (samples.DEFINITIONS, definitions)),
        [samples.saved_row(number, 1) for number in IDS],
        IDS,
    )


def expected(saved: bool) -> list[samples.Row]:
    (_, jobs), (_, definitions) = batch().inserts
    changing = batch().saves if saved else [row[:-1] for row in jobs]
    return [(*one, *asked[1:]) for one, asked in zip(changing, definitions, strict=True)]


@pytest.mark.parametrize("way", PSYCOPG["insert"])
def test_what_is_inserted_is_loaded_and_claimed(connection: ways.Connection, way: str) -> None:
    connection.execute(CLEAR)
    PSYCOPG["insert"][way](connection, batch())
    for verb in ("load", "claim"):
        for read in PSYCOPG[verb].values():
            assert [tuple(row) for row in read(connection, batch())] == expected(False)


@pytest.mark.parametrize("way", PSYCOPG["save"])
def test_what_is_saved_is_loaded(connection: ways.Connection, way: str) -> None:
    connection.execute(CLEAR)
    PSYCOPG["insert"]["executemany"](connection, batch())
    PSYCOPG["save"][way](connection, batch())
    assert PSYCOPG["load"]["rows, binary"](connection, batch()) == expected(True)
    stale = replace(batch(), saves=[samples.saved_row(number, 2) for number in IDS])
    PSYCOPG["save"][way](connection, stale)
    assert PSYCOPG["load"]["rows, binary"](connection, batch()) == expected(True)
    assert PSYCOPG["claim"]["rows, binary"](connection, batch()) == []
