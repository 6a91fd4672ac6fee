"""The connection that writes: the numbers of its changes, who hears of them, and what became of a commit in doubt."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping

import psycopg
from psycopg import errors

from towpath_server.core.errors import StoreFull, StoreUnavailable
from towpath_server.store.base import Contended
from towpath_server.store.postgres import failures
from towpath_server.store.postgres.address import Address
from towpath_server.store.postgres.clock import DatabaseClock
from towpath_server.store.postgres.connection import Connection
from towpath_server.store.postgres.failures import translated

# Of a sequence: which change of its transaction it is.
COUNT_BITS = 20
# A notice holds up to 8000 bytes.
LONGEST_NOTICE = 7000
MANY = "many"
DOUBT_SECONDS = 5.0
_ASK_AGAIN_SECONDS = 0.02
_WRITER_BITS = 62

_BEGIN = """BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT base, pg_current_xact_id()::text::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM origin"""
_OURS = "WHERE sequence >= $1::bigint AND sequence < $2::bigint AND writer = $3::bigint"
_LEFT_BEHIND = f"SELECT EXISTS (SELECT 1 FROM jobs {_OURS}) OR EXISTS (SELECT 1 FROM record_changes {_OURS})"  # noqa: S608
_STATUS = "SELECT pg_xact_status($1::xid8)"


class Writer(Connection):
    """A connection that reads and writes, for one thread at a time."""

    _settings: Mapping[str, str] = {
        # A scheduler that stands still with rows in its hands holds up the others for a second, not for ever.
        "idle_in_transaction_session_timeout": "1s",
        "lock_timeout": "1s",
        "statement_timeout": "10s",
        "jit": "off",
        # What it looks for is always found by an index, also when a table has grown since it was last looked through.
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
    }

    def __init__(self, address: Address, channel: str, clock: DatabaseClock) -> None:
        self._number = _new_number()
        self._channel = channel
        self.clock = clock
        self._first = 0
        self._count = 0
        self._transaction = 0
        self._tells = False
        self._logged: set[int] = set()
        super().__init__(address)

    @property
    def writes(self) -> bool:
        """See `Connection`."""
        return self._open

    @property
    def number(self) -> int:
        """See `Connection`."""
        return self._number

    def sequence(self) -> int:
        """See `Connection`."""
        self.demand_open()
        if self._count >> COUNT_BITS:
            raise RuntimeError("one transaction has too many changes")
        self._count += 1
        return self._first + self._count - 1

    def tell(self, logged: Iterable[int] = ()) -> None:
        """See `Connection`."""
        self._tells = True
        self._logged.update(logged)

    def _begin(self) -> None:
        self._count, self._tells = 0, False
        self._logged.clear()
        sent = time.monotonic_ns()
        row = self._say(_BEGIN).fetchone()
        if row is None:
            raise StoreUnavailable
        base, self._transaction, there = row
        self.clock.set(there, sent, time.monotonic_ns())
        self._first = base + (self._transaction << COUNT_BITS)

    def _meant(self, error: Exception) -> Exception:
        # Nothing was changed, and on another connection it may go through.
        cause = error.__cause__ if isinstance(error, StoreUnavailable) else None
        if isinstance(cause, psycopg.Error) and self._cuts(cause):
            return Contended("the connection was cut")
        return error

    def _commit(self) -> None:
        # After the commit, not in it: all commits that notify wait for one another, and so for each other's disk.
        told = f"; SELECT pg_notify('{self._channel}', '{self._notice()}')" if self._tells else ""
        try:
            self._say(f"COMMIT{told}")
        except psycopg.Error as error:
            self._cuts(error)
            self._resolve(error)

    def _notice(self) -> str:
        logged = ",".join(map(str, sorted(self._logged)))
        return f"{self.number}:{logged if len(logged) <= LONGEST_NOTICE else MANY}"

    def _resolve(self, error: psycopg.Error) -> None:
        """Returns where the transaction was committed after all."""
        until = time.monotonic() + DOUBT_SECONDS
        while time.monotonic() < until:
            try:
                if self._is_cut:
                    self._reopen()
                came_to_pass = self._came_to_pass()
            except psycopg.Error as again:
                self._cuts(again)
                came_to_pass = None
            if came_to_pass:
                return
            if came_to_pass is False:
                meant = failures.meaning(error)
                if isinstance(meant, StoreFull):
                    raise meant from error
                raise Contended("the commit was cut off") from error
            time.sleep(_ASK_AGAIN_SECONDS)
        # If it was committed, its changes are to come back as those of somebody else.
        self._number = _new_number()
        raise StoreUnavailable from error

    def _came_to_pass(self) -> bool | None:
        """None: it cannot be told, or not yet."""
        bounds = [str(self._first), str(self._first + (1 << COUNT_BITS)), str(self.number)]
        try:
            [[status]] = self._run(_STATUS, [str(self._transaction)]).fetchall()
        except errors.InvalidParameterValue:
            # Its id is yet to be given out: it was lost with a server that went down.
            return False
        if status in ("aborted", "in progress"):
            return False if status == "aborted" else None
        if not self._count:
            # It has beaten, deleted or logged at most: nothing proves it, and to do it again is safe.
            return False
        # After a crash its id may have been given to another: only what it has left behind is proof.
        [[found]] = self._run(_LEFT_BEHIND, bounds).fetchall()
        return True if found else None


def _new_number() -> int:
    return secrets.randbits(_WRITER_BITS)


def opened(address: Address, channel: str, clock: DatabaseClock) -> Writer:
    """A writer whose clock has been looked at."""
    with translated():
        writer = Writer(address, channel, clock)
    with writer.transaction():
        pass
    return writer
