"""The toy's store: one writer thread commits everything that waits as one transaction, a statement a kind."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from itertools import chain

Rows = Sequence[tuple[object, ...]]

SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, name BLOB NOT NULL, queue TEXT NOT NULL, kind TEXT NOT NULL, priority INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0, payload BLOB NOT NULL, result BLOB,
    worker TEXT, run_at INTEGER NOT NULL, lease_until INTEGER, created_at INTEGER NOT NULL, finished_at INTEGER
) STRICT;
CREATE INDEX ready ON jobs (queue, priority DESC, id) WHERE state = 0;
CREATE INDEX leased ON jobs (lease_until) WHERE state = 1;
"""
PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 10000", "cache_size = -65536")
#: Statements take at most so many rows, always a power of two, so that few are prepared.
MOST_ROWS = 256

#: Each with the number of its columns.
STATEMENTS = {
    "insert": (
        "INSERT INTO jobs (id, name, queue, kind, priority, payload, run_at, created_at) VALUES {rows}",
        8,
    ),
    "lease": (
        """UPDATE jobs SET state = 1, attempt = attempt + 1, worker = v.column2, lease_until = v.column3
        FROM (VALUES {rows}) v WHERE jobs.id = v.column1""",
        3,
    ),
    "finish": (
        """UPDATE jobs SET state = 2, result = v.column2, finished_at = v.column3, lease_until = NULL
        FROM (VALUES {rows}) v WHERE jobs.id = v.column1""",
        3,
    ),
}


class Store:
    """Takes rows from the event loop; a future is done once its rows are on the disk."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, cached_statements=64)
        for pragma in PRAGMAS:
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(SCHEMA)
        self._loop = loop
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._rows: dict[str, list[tuple[object, ...]]] = {kind: [] for kind in STATEMENTS}
        self._waiting: list[asyncio.Future[None]] = []
        threading.Thread(target=self._write, daemon=True).start()

    def put(self, kind: str, rows: Rows) -> None:
        """Written with the next group; nobody waits for it."""
        with self._lock:
            self._rows[kind].extend(rows)
        self._some.set()

    def commit(self, kind: str, rows: Rows) -> asyncio.Future[None]:
        """Done once it is fsynced."""
        done = self._loop.create_future()
        with self._lock:
            self._rows[kind].extend(rows)
            self._waiting.append(done)
        self._some.set()
        return done

    def _write(self) -> None:
        while self._some.wait():
            self._some.clear()
            with self._lock:
                group, waiting = self._rows, self._waiting
                self._rows, self._waiting = {kind: [] for kind in STATEMENTS}, []
            self._database.execute("BEGIN IMMEDIATE")
            for kind, rows in group.items():
                for chunk in _chunks(rows):
                    words, columns = STATEMENTS[kind]
                    marks = ",".join([f"({','.join('?' * columns)})"] * len(chunk))
                    self._database.execute(words.format(rows=marks), list(chain.from_iterable(chunk)))
            self._database.execute("COMMIT")
            if waiting:
                self._loop.call_soon_threadsafe(_resolve, waiting)


def _resolve(waiting: Sequence[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)


def _chunks(rows: Rows) -> Iterator[Rows]:
    start, size = 0, MOST_ROWS
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        yield rows[start : start + size]
        start += size
