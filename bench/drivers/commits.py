"""What the ends of a transaction cost: round trips, commits, NOTIFY, and several programs that commit at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]
End = Callable[[Connection, int], None]
PROGRAMS = (1, 3, 8)
WARM = 10
TABLE = """
DROP TABLE IF EXISTS ends;
CREATE TABLE ends (id bigint PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO ends SELECT g, 0 FROM generate_series(0, 99) g;
"""
WRITE = "UPDATE ends SET n = n + 1 WHERE id = %s"


@dataclass(frozen=True, slots=True)
class Came:
    """How many transactions a second there were in one program, and its CPU for each."""

    rate: float
    cpu: float


def one_by_one(connection: Connection, number: int) -> None:
    """BEGIN, the statement and COMMIT, a round trip each."""
    connection.execute("BEGIN")
    connection.execute(WRITE, (number,))
    connection.execute("COMMIT")


def pipeline(connection: Connection, number: int) -> None:
    """The same in one round trip."""
    with connection.pipeline():
        one_by_one(connection, number)


def notify_inside(connection: Connection, number: int) -> None:
    """NOTIFY in the transaction, in one text with COMMIT: it locks out other NOTIFYs until the commit is on disk."""
    connection.execute("BEGIN")
    connection.execute(WRITE, (number,))
    connection.execute("NOTIFY ends; COMMIT")


def notify_after(connection: Connection, number: int) -> None:
    """NOTIFY in a transaction of its own, which writes nothing and so waits for no disk, in one text with COMMIT."""
    connection.execute("BEGIN")
    connection.execute(WRITE, (number,))
    connection.execute("COMMIT; NOTIFY ends")


ENDS: dict[str, End] = {
    "BEGIN, statement, COMMIT": one_by_one,
    "the same in a pipeline": pipeline,
    "BEGIN, statement, NOTIFY; COMMIT": notify_inside,
    "BEGIN, statement, COMMIT; NOTIFY": notify_after,
}
#: A disk that takes 2 ms, as those of servers in a cloud do, is made of a fast one by a delay before its fsync.
DISKS = {
    "is not waited for": "SET synchronous_commit = off",
    "is this one": "SET synchronous_commit = on",
    "takes 2 ms more": "SET commit_siblings = 0; SET commit_delay = 2000",
}


def measure(url: str, seconds: float) -> Iterator[tuple[str, str, dict[int, list[Came]]]]:
    """Each end on each disk: what came of it in so many programs at once."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute("LISTEN ends")
        for disk in DISKS:
            for name in ENDS:
                came = {}
                for programs in PROGRAMS:
                    with get_context("spawn").Pool(programs) as pool:
                        tasks = [(url, name, disk, place, seconds) for place in range(programs)]
                        came[programs] = pool.map(_program, tasks, 1)
                    for _ in connection.notifies(timeout=0):
                        pass
                yield name, disk, came


def _program(task: tuple[str, str, str, int, float]) -> Came:
    url, name, disk, place, seconds = task
    end = ENDS[name]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(DISKS[disk])
        for _ in range(WARM):
            end(connection, place)
        times, begun, used = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() < begun + seconds:
            end(connection, place)
            times += 1
        return Came(times / (time.perf_counter() - begun), (time.process_time() - used) / times)
