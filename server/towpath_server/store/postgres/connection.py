"""One connection to PostgreSQL: its settings, its transactions, and how it is opened anew when it was cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from towpath_server.core.errors import StoreUnavailable
from towpath_server.store.postgres.address import Address
from towpath_server.store.postgres.failures import translated
from towpath_server.store.rows import Row

T = TypeVar("T")

# Seconds. What a reader looks for may be every job there is.
SCAN_TIMEOUT = 60
_READING = {
    # To compile a statement takes longer than nearly all of them run.
    "jit": "off",
    # Whoever looks at every job there is takes one core of the server, and no more.
    "max_parallel_workers_per_gather": "0",
    "lock_timeout": "1s",
    "statement_timeout": f"{SCAN_TIMEOUT}s",
    "idle_in_transaction_session_timeout": f"{SCAN_TIMEOUT}s",
}
_CUT = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.IdleInTransactionSessionTimeout,
    # It has become a standby: the next connection finds who is the primary now.
    errors.ReadOnlySqlTransaction,
)


def connect(address: Address, settings: Mapping[str, str]) -> psycopg.Connection[Row]:
    """A new connection. Raises the driver's errors."""
    return psycopg.connect(
        **address.with_settings(settings),  # type: ignore[arg-type]
        autocommit=True,
        cursor_factory=psycopg.RawCursor[Row],
    )


class Connection:
    """A connection that reads, for one thread at a time."""

    _settings: Mapping[str, str] = _READING

    def __init__(self, address: Address) -> None:
        self._address = address
        self._ended = False
        self._open = False
        self._spoiled: Exception | None = None
        with translated():
            self._postgres = connect(address, self._settings)

    def rows(self, sql: str, values: Sequence[str | None] = ()) -> list[Row]:
        """All rows of a query. Its parameters are `$1::type` and so on; their values are given as text."""
        return self._execute(sql, values).fetchall()

    def value(self, sql: str, values: Sequence[str | None] = ()) -> Any:
        """The one value of a query."""
        [[value]] = self.rows(sql, values)
        return value

    def change(self, sql: str, values: Sequence[str | None] = ()) -> int:
        """Runs one INSERT, UPDATE or DELETE inside `transaction()` of a writer; how many rows it touched."""
        self.demand_open()
        return self._execute(sql, values).rowcount

    @property
    def writes(self) -> bool:
        """Whether a `transaction()` that may write is open."""
        return False

    def demand_open(self) -> None:
        """Raises where nothing may be changed now."""
        if not self.writes:
            raise _not_by_readers()

    @property
    def number(self) -> int:
        """Who writes; it is stored beside each change."""
        raise _not_by_readers()

    def sequence(self) -> int:
        """The next change's number in the open transaction."""
        raise _not_by_readers()

    def tell(self, logged: Iterable[int] = ()) -> None:
        """Others are to hear of the open transaction, and that these jobs have logged."""
        raise _not_by_readers()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits when the block ends, rolls back when it or anything in it raised."""
        if self._open:
            raise RuntimeError("a transaction is open already")
        try:
            self._opened(self._begin)
        except BaseException:
            self._roll_back()
            raise
        self._open, self._spoiled = True, None
        try:
            yield
            if self._spoiled is not None:
                raise self._spoiled
            self._commit()
        finally:
            self._open = False
            self._roll_back()

    @contextmanager
    def by_index(self) -> Iterator[None]:
        """What is looked for inside is found by an index, whatever the server believes of its tables."""
        self._execute("SET enable_seqscan = off", ())
        try:
            yield
        finally:
            # A transaction that has failed refuses this, and takes it back by itself.
            with suppress(Exception):
                self._execute("RESET enable_seqscan", ())

    def spoil(self, error: Exception) -> Exception:
        """Keeps the transaction from being committed, whatever becomes of the error."""
        self._spoiled = error
        return error

    def close(self) -> None:
        """Hangs up for good; what is open is rolled back."""
        self._ended = True
        self._postgres.close()

    def _execute(self, sql: str, values: Sequence[str | None]) -> psycopg.Cursor[Row]:
        if not self._open:
            return self._opened(lambda: self._run(sql, values))
        try:
            with translated():
                return self._run(sql, values)
        except Exception as error:
            meant = self._meant(error)
            self._spoiled = self._spoiled or meant
            if meant is error:
                raise
            raise meant from error.__cause__

    def _meant(self, error: Exception) -> Exception:
        """What it means to whoever is inside a transaction."""
        return error

    def _run(self, sql: str, values: Sequence[str | None]) -> psycopg.Cursor[Row]:
        return self._postgres.cursor(binary=True).execute(sql.encode(), values)

    def _say(self, script: str) -> psycopg.Cursor[Row]:
        """Several statements in one message. Their rows come as text, and the last one's are those of the cursor."""
        cursor = self._postgres.cursor().execute(script.encode(), prepare=False)
        while cursor.nextset():
            pass
        return cursor

    def _begin(self) -> None:
        self._say("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def _commit(self) -> None:
        with translated():
            self._say("COMMIT")

    def _roll_back(self) -> None:
        if self._is_cut or self._postgres.info.transaction_status is psycopg.pq.TransactionStatus.IDLE:
            return
        try:
            self._say("ROLLBACK")
        except psycopg.Error:
            self._postgres.close()

    def _opened(self, work: Callable[[], T]) -> T:
        """What is done outside a transaction, on a new connection where this one turns out to be cut."""
        with translated():
            if not self._is_cut:
                try:
                    return work()
                except psycopg.OperationalError as error:
                    if not self._cuts(error):
                        raise
            self._reopen()
            return work()

    @property
    def _is_cut(self) -> bool:
        return self._postgres.closed

    def _cuts(self, error: psycopg.Error) -> bool:
        """Whether the connection is of no use after this error."""
        if isinstance(error, _CUT) and not self._postgres.closed:
            self._postgres.close()
        return self._postgres.closed

    def _reopen(self) -> None:
        if self._ended:
            raise StoreUnavailable
        with suppress(psycopg.Error):
            self._postgres.close()
        self._postgres = connect(self._address, self._settings)


def _not_by_readers() -> RuntimeError:
    return RuntimeError("a store is changed inside transaction() only, and never by a reader")
