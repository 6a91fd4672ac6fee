"""A PostgreSQL store as a whole: read from one end to the other, or filled into an empty database."""

# Only names from this package go into the text of a statement; values are bound.
# ruff: noqa: S608
from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import psycopg

from towpath_server.core.errors import StoreFull, StoreUnavailable
from towpath_server.core.job import Attempt, Job
from towpath_server.core.records import AuditEvent, LogChunk
from towpath_server.store import side_rows
from towpath_server.store.archive import PAGE_ROWS, Archive, AttemptKey, LogKey, first_page
from towpath_server.store.base import Contended, Store, StoreRefused
from towpath_server.store.postgres import arrays, finding, refusing, schema, statements, using
from towpath_server.store.postgres.address import Address
from towpath_server.store.postgres.clock import DatabaseClock
from towpath_server.store.postgres.connection import Connection
from towpath_server.store.postgres.failures import translated
from towpath_server.store.postgres.reading import Reading
from towpath_server.store.postgres.store import PostgresTables
from towpath_server.store.postgres.writer import COUNT_BITS, Writer

# What is done here may take hours, and nobody waits for it.
_PATIENT = {
    "jit": "off",
    "client_min_messages": "warning",
    "lock_timeout": "10s",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # Page after page by the primary keys, also before anybody has counted what is there.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_TABLES = "lanes, jobs, definitions, attempts, logs, tokens, queues, workers, models, replicas, quotas, audit"
# A scheduler that beats does so each second.
_SILENT_SECONDS = 6.0
_PARTING_SECONDS = 1.0
_LOOK_SECONDS = 0.2

_BEGUN = """SELECT base, pg_current_xact_id()::text::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM origin"""
_ATTEMPT = statements.names(side_rows.ATTEMPT_COLUMNS)
_LOG = statements.names(side_rows.LOG_COLUMNS)
_LOG_TEXT = side_rows.LOG_COLUMNS.index("text")
_JOBS = """SELECT j.job_id, octet_length(d.spec) + octet_length(d.annotations) + coalesce(octet_length(j.result), 0)
  + coalesce(octet_length(j.failure), 0)
FROM jobs j JOIN definitions d ON d.job_id = j.job_id WHERE j.job_id > $1::bigint ORDER BY j.job_id LIMIT $2::bigint"""
_ATTEMPTS = """SELECT job_id, number, coalesce(octet_length(failure), 0) FROM attempts
WHERE (job_id, number) > ($1::bigint, $2::bigint) ORDER BY job_id, number LIMIT $3::bigint"""
_LOGS = """SELECT job_id, attempt, "offset", size FROM logs
WHERE (job_id, attempt, "offset") > ($1::bigint, $2::bigint, $3::bigint)
ORDER BY job_id, attempt, "offset" LIMIT $4::bigint"""
_ATTEMPTS_BETWEEN = f"""SELECT {_ATTEMPT} FROM attempts WHERE (job_id, number) > ($1::bigint, $2::bigint)
AND (job_id, number) <= ($3::bigint, $4::bigint) ORDER BY job_id, number"""
_LOGS_BETWEEN = f"""SELECT {_LOG} FROM logs WHERE (job_id, attempt, "offset") > ($1::bigint, $2::bigint, $3::bigint)
AND (job_id, attempt, "offset") <= ($4::bigint, $5::bigint, $6::bigint) ORDER BY job_id, attempt, "offset\""""
_AUDIT = f"""SELECT {statements.names(side_rows.AUDIT_COLUMNS)} FROM audit WHERE event_id > $1::bigint
ORDER BY event_id LIMIT $2::bigint"""
_SIZE = """SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM attempts) + (SELECT count(*) FROM logs)
  + (SELECT count(*) FROM audit)"""
_REACHED = f"SELECT base + (pg_snapshot_xmax(pg_current_snapshot())::text::bigint << {COUNT_BITS}) FROM origin"
# Transactions after this one have greater ids.
_GO_ON_ABOVE = f"""UPDATE origin SET base = greatest(base,
  ((($1::bigint - (pg_current_xact_id()::text::bigint << {COUNT_BITS})) >> {COUNT_BITS}) + 1) << {COUNT_BITS})"""


class PostgresArchive(Reading):
    """See `Archive`. To read only, inside a transaction that is open."""

    def next_jobs(self, after: int) -> list[Job]:
        """See `Archive`."""
        found = self._connection.rows(_JOBS, [str(after), str(PAGE_ROWS)])
        job_ids = first_page((int(job_id), int(size)) for job_id, size in found)
        return finding.load(self._connection, job_ids) if job_ids else []

    def next_attempts(self, after: AttemptKey) -> list[Attempt]:
        """See `Archive`."""
        found = self._connection.rows(_ATTEMPTS, _given(*after, PAGE_ROWS))
        page = first_page(((job_id, number), size) for job_id, number, size in found)
        rows = self._connection.rows(_ATTEMPTS_BETWEEN, _given(*after, *page[-1])) if page else []
        return [side_rows.read_attempt(row) for row in rows]

    def next_logs(self, after: LogKey) -> list[LogChunk]:
        """See `Archive`."""
        found = self._connection.rows(_LOGS, _given(*after, PAGE_ROWS))
        page = first_page((tuple(key), size) for *key, size in found)
        rows = self._connection.rows(_LOGS_BETWEEN, _given(*after, *page[-1])) if page else []
        return [
            side_rows.read_log((*row[:_LOG_TEXT], arrays.give_nul(row[_LOG_TEXT]), *row[_LOG_TEXT + 1 :]))
            for row in rows
        ]

    def next_audit(self, after: int) -> list[AuditEvent]:
        """See `Archive`."""
        return finding.read_audit(self._connection.rows(_AUDIT, _given(after, PAGE_ROWS)))

    def size(self) -> int:
        """See `Archive`."""
        return int(self._connection.value(_SIZE))

    def reached(self) -> int:
        """See `Archive`."""
        return int(self._connection.value(_REACHED))


class _Holder(Connection):
    """Reads one moment of a store, to which nobody can write meanwhile."""

    _settings = _PATIENT

    def _begin(self) -> None:
        # The locks come first: what is seen is what was there when they were had.
        self._say(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {_TABLES} IN SHARE MODE")

    def demand_unused(self) -> None:
        """Raises `StoreRefused` where schedulers live: by their connections, or by their beats."""
        # The server takes a moment to see that one has ended.
        until = time.monotonic() + _PARTING_SECONDS
        while using.programs(self._postgres):
            if time.monotonic() > until:
                raise StoreRefused(refusing.in_use(self._address))
            time.sleep(_LOOK_SECONDS)
        first = using.beats(self._postgres)
        until = time.monotonic() + (_SILENT_SECONDS if first else 0)
        while time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
            if using.beats(self._postgres) != first:
                raise StoreRefused(refusing.in_use(self._address))


class _Filler(Writer):
    """Writes a whole store in one transaction, which makes its tables too: until it ends the database is empty."""

    _settings = _PATIENT
    looking = False

    def __init__(self, address: Address) -> None:
        super().__init__(address, "", DatabaseClock())

    @property
    def writes(self) -> bool:
        """See `Connection`."""
        return super().writes and not self.looking

    def tell(self, logged: Iterable[int] = ()) -> None:
        """See `Connection`. There is nobody to be told."""

    def _begin(self) -> None:
        self._say("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        schema.fill(self._postgres, self._address)
        sent = time.monotonic_ns()
        [[base, self._transaction, there]] = self._postgres.execute(_BEGUN.encode()).fetchall()
        self.clock.set(there, sent, time.monotonic_ns())
        self._count = 0
        self._first = base + (self._transaction << COUNT_BITS)

    def count_up(self) -> None:
        """Have the tables looked through, so that their first queries are planned well."""
        self._say(f"ANALYZE {_TABLES}")


class _FilledTables(PostgresTables):
    def forget(self) -> None:
        """What was written need not be kept in mind."""
        self._definitions.clear()


class PostgresTarget:
    """See `Target`."""

    def __init__(self, address: Address, filler: _Filler) -> None:
        self._filler = filler
        self._tables = _FilledTables(address, "", filler, filler)
        self.store: Store = self._tables

    @contextmanager
    def page(self) -> Iterator[None]:
        """See `Target`."""
        yield
        self._tables.forget()

    def go_on_above(self, sequence: int) -> None:
        """See `Target`."""
        self._filler.change(_GO_ON_ABOVE, [str(sequence)])

    def written(self) -> Archive:
        """See `Target`."""
        self._filler.looking = True
        return PostgresArchive(self._filler, self._filler)


@contextmanager
def source(url: str) -> Iterator[Archive]:
    """The store in a database, to which nobody can write meanwhile. Raises `StoreRefused`."""
    address = schema.read(url)
    if not schema.examine(address):
        raise StoreRefused(f"The database {address.shown} is empty. There is nothing to move.")
    with _explained(address):
        holder = _Holder(address)
        try:
            holder.demand_unused()
            with holder.transaction():
                # It never writes: whose its changes would be does not matter.
                yield PostgresArchive(holder, holder)  # type: ignore[arg-type]
        finally:
            holder.close()


@contextmanager
def target(url: str) -> Iterator[PostgresTarget]:
    """An empty database, which holds the whole store once the block has ended well. Raises `StoreRefused`."""
    address = schema.read(url)
    # To be told in time, with words about the server.
    if schema.examine(address):
        raise StoreRefused(refusing.taken(address))
    with _explained(address):
        filler = _Filler(address)
        try:
            with filler.transaction():
                yield PostgresTarget(address, filler)
                filler.count_up()
        finally:
            filler.close()


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    try:
        with translated():
            yield
    except (StoreFull, StoreUnavailable) as error:
        if error.__cause__ is not None and not isinstance(error.__cause__, psycopg.Error):
            # It was the other side.
            raise
        if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege | psycopg.errors.ReadOnlySqlTransaction):
            raise StoreRefused(refusing.unfit(address, error.__cause__)) from error
        what = "has no room left" if isinstance(error, StoreFull) else "cannot be reached any more"
        raise StoreRefused(f"{address.shown} {what}. Nothing was moved; see to it, and run this again.") from error
    except Contended as error:
        raise StoreRefused(f"{address.shown} was disturbed ({error}). Nothing was moved; run this again.") from error
    except psycopg.Error as error:
        raise StoreRefused(refusing.unfit(address, error)) from error


def _given(*values: int) -> list[str]:
    return [str(value) for value in values]
