"""One connection to SQLite: its settings, its transactions, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from towpath_server.core.errors import InvalidArgument, StoreFull, StoreUnavailable, Violation
from towpath_server.store.base import IntegrityViolation
from towpath_server.store.rows import Row

Parameters = Sequence[Any] | Mapping[str, Any]

# A process that looks at the file, or a backup, may hold it for a moment.
BUSY_TIMEOUT_S = 5.0
_PREPARED_STATEMENTS = 256
_SETTINGS = (
    "PRAGMA synchronous = FULL",
    # macOS: a plain fsync there leaves the data in the disk's cache.
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -32768",
    "PRAGMA wal_autocheckpoint = 8000",
    "PRAGMA journal_size_limit = 67108864",
)


class Connection:
    """A connection for one thread at a time."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        with _translated():
            self._sqlite = sqlite3.connect(
                path,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_PREPARED_STATEMENTS,
            )
        try:
            for setting in _SETTINGS:
                self.execute(setting)
            if read_only:
                self.execute("PRAGMA query_only = ON")
        except BaseException:
            self._sqlite.close()
            raise
        self._read_only = read_only
        self._open = False
        self._spoiled: Exception | None = None

    def execute(self, sql: str, parameters: Parameters = ()) -> sqlite3.Cursor:
        """Runs one statement."""
        with _translated():
            return self._sqlite.execute(sql, parameters)

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a query."""
        with _translated():
            return self._sqlite.execute(sql, parameters).fetchall()

    def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """The one value of a query."""
        with _translated():
            return self._sqlite.execute(sql, parameters).fetchone()[0]

    def change(self, sql: str, parameters: Parameters = ()) -> int:
        """Runs one INSERT, UPDATE or DELETE inside `transaction()`; how many rows it touched."""
        if not self._open or self._read_only:
            raise RuntimeError("a store is changed inside transaction() only, and never by a reader")
        try:
            return self.execute(sql, parameters).rowcount
        except Exception as error:
            self._spoiled = error
            raise

    @property
    def writes(self) -> bool:
        """Whether a `transaction()` that may write is open."""
        return self._open and not self._read_only

    def spoil(self, error: Exception) -> Exception:
        """Keeps the transaction from being committed, whatever becomes of the error."""
        self._spoiled = error
        return error

    def script(self, sql: str) -> None:
        """Runs many statements, which bring their own transaction."""
        with _translated():
            try:
                self._sqlite.executescript(sql)
            finally:
                self._roll_back()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits when the block ends, rolls back when it or any change in it raised."""
        if self._open:
            raise RuntimeError("a transaction is open already")
        self.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")
        self._open, self._spoiled = True, None
        try:
            yield
            if self._spoiled is not None:
                raise self._spoiled
            self.execute("COMMIT")
        finally:
            self._open = False
            self._roll_back()

    def _roll_back(self) -> None:
        # SQLite itself has rolled back after some errors.
        if self._sqlite.in_transaction:
            with suppress(sqlite3.Error):
                self._sqlite.execute("ROLLBACK")

    def close(self) -> None:
        """Closes it; the last one also moves the write-ahead log into the file."""
        self._sqlite.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        meaning = _meaning(error)
        if meaning is error:
            raise
        raise meaning from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidArgument((Violation("job", "text must be Unicode and numbers fit 64 bits"),)) from error


def _meaning(error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE):
        return StoreFull()
    match code & 0xFF:
        case sqlite3.SQLITE_CONSTRAINT:
            return IntegrityViolation(str(error))
        case sqlite3.SQLITE_TOOBIG:
            return InvalidArgument((Violation("job", "it is too large for the store"),))
        case sqlite3.SQLITE_ERROR | sqlite3.SQLITE_MISUSE:
            # Wrong SQL: a bug of ours, shown as it is.
            return error
    return StoreUnavailable()
