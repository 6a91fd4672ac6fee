"""Where the load runs: a scheduler on SQLite, or one or several of them on a database of the bench's PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from bench.meter import TRANSACTIONS, Reading
from bench.programs import Scheduler, scheduler

#: The database of Towpath beside those of the peers.
DATABASE = "towpath"


@dataclass(frozen=True, slots=True)
class Place:
    """Schedulers that share a store."""

    schedulers: Sequence[Scheduler]
    #: To PostgreSQL, where that is the store.
    database: psycopg.Connection | None = field(default=None, repr=False)

    def of(self, number: int) -> Scheduler:
        """They are given out in turn."""
        return self.schedulers[number % len(self.schedulers)]

    def cpu_seconds(self) -> float:
        """Of all schedulers."""
        return sum(one.cpu_seconds() for one in self.schedulers)

    def reading(self) -> Reading | None:
        """Of PostgreSQL."""
        if self.database is None:
            return None
        [number] = self.database.execute(TRANSACTIONS).fetchone() or [0]
        return Reading.now(number)

    def settle(self) -> None:
        """Wait until they do nothing."""
        for one in self.schedulers:
            one.settle()


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Place]:
    """The embedded store."""
    with scheduler(folder) as at:
        yield Place([at])


@contextmanager
def on_postgres(folder: Path, replicas: int) -> Iterator[Place]:
    """So many schedulers on an empty database."""
    with ExitStack() as stack:
        admin, store = stack.enter_context(database())
        found = [stack.enter_context(scheduler(folder, store=store, name=f"server-{n}")) for n in range(replicas)]
        yield Place(found, admin)


@contextmanager
def database() -> Iterator[tuple[psycopg.Connection, str]]:
    """A connection to an empty database for Towpath, and its URL. The peers' own is emptied for it."""
    server = os.environ["BENCH_POSTGRES"]
    url = server.rpartition("/")[0] + f"/{DATABASE}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"drop database if exists {DATABASE} with (force)".encode())
        connection.execute(f"create database {DATABASE}".encode())
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection, url
