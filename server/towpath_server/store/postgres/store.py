"""The verbs of `SharedStore` on a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from towpath_server.core.errors import Conflict
from towpath_server.core.ids import show
from towpath_server.core.job import Attempt, Job
from towpath_server.core.records import AuditEvent, Lane, LogChunk, Replica
from towpath_server.store import rows, side_rows
from towpath_server.store.base import IntegrityViolation, Record, StoreRefused
from towpath_server.store.postgres import arrays, refusing, schema, statements, tags
from towpath_server.store.postgres.address import Address
from towpath_server.store.postgres.clock import DatabaseClock
from towpath_server.store.postgres.connection import Connection
from towpath_server.store.postgres.listener import PostgresListener
from towpath_server.store.postgres.reading import Reading
from towpath_server.store.postgres.writer import Writer, opened
from towpath_server.store.record_rows import TABLES, Table
from towpath_server.store.rows import Row, dumps
from towpath_server.store.shared import Listener, SharedStore

_REASON = rows.JOB_COLUMNS.index("state_reason")
_DEDUPE = rows.JOB_COLUMNS.index("dedupe")
_LABELS = rows.DEFINITION_COLUMNS.index("labels")
_TEXT = side_rows.LOG_COLUMNS.index("text")
_JOB_KINDS = statements.kinds("jobs", statements.JOB_COLUMNS)
_DEFINITION_KINDS = statements.kinds("definitions", statements.DEFINITION_COLUMNS)
_LANE_KINDS = statements.kinds("lanes", statements.LANE_COLUMNS)
_ATTEMPT_KINDS = statements.kinds("attempts", side_rows.ATTEMPT_COLUMNS)
_LOG_KINDS = statements.kinds("logs", side_rows.LOG_COLUMNS)
_AUDIT_KINDS = statements.kinds("audit", side_rows.AUDIT_COLUMNS)


class PostgresTables(Reading):
    """On one connection. That of a reader refuses all changes."""

    def __init__(self, address: Address, channel: str, writer: Writer, connection: Connection) -> None:
        super().__init__(writer, connection)
        self._address = address
        self._channel = channel

    def reader(self) -> SharedStore:
        """See `SharedStore`."""
        return PostgresTables(self._address, self._channel, self._writer, Connection(self._address))

    def listener(self) -> Listener:
        """See `SharedStore`."""
        return PostgresListener(self._address, self._channel, self._writer)

    def sequence(self, now: int) -> int:
        """See `Store`."""
        return self._connection.sequence()

    def insert(self, jobs: Sequence[Job]) -> None:
        """See `Store`."""
        if not jobs:
            return
        values = arrays.columns(_JOB_KINDS, [self._job_row(job, 1) for job in jobs])
        values += arrays.columns(_DEFINITION_KINDS, [_definition_row(job, 1) for job in jobs])
        if self._connection.change(statements.INSERT_JOBS, values) != len(jobs):
            raise self._connection.spoil(IntegrityViolation("a lane of the new jobs is not there"))
        self._saved(jobs)

    def save(self, jobs: Sequence[Job], past: Sequence[Attempt] = ()) -> None:
        """See `Store`."""
        redefined = [job for job in jobs if self._definitions.get(job.job_id) is not job.definition]
        # A unique index is looked at row by row: who had a key leaves it before another has it.
        holders = [job for job in jobs if job.definition.dedupe_key and not job.state.is_final]
        others = [job for job in jobs if not job.definition.dedupe_key or job.state.is_final]
        anew = {job.job_id for job in redefined}
        self._update(others, anew)
        self._update(holders, anew)
        if redefined:
            values = arrays.columns(_DEFINITION_KINDS, [_definition_row(job, job.revision) for job in redefined])
            self._connection.change(statements.UPDATE_DEFINITIONS, values)
        self._saved(jobs)
        if past:
            # Of two with one number the last counts.
            last = {(one.job_id, one.number): one for one in past}
            self._demand(one.job_id for one in past)
            values = arrays.columns(_ATTEMPT_KINDS, [side_rows.attempt_row(last[key]) for key in sorted(last)])
            self._connection.change(statements.UPSERT_ATTEMPTS, values)

    def delete(self, job_ids: Sequence[int]) -> None:
        """See `Store`."""
        if job_ids:
            self._connection.change(statements.DELETE_JOBS, [arrays.numbers(job_ids)])

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """See `Store`."""
        first = {lane.lane_id: lane for lane in reversed(lanes)}
        if lanes:
            values = arrays.columns(_LANE_KINDS, [_lane_row(first[lane_id]) for lane_id in sorted(first)])
            self._connection.change(statements.INSERT_LANES, values)

    def put(self, records: Sequence[Record], *, replace: bool = True) -> None:
        """See `Store`."""
        for kind, table in TABLES.items():
            mine = [table.row(record) for record in records if type(record) is kind]
            if mine:
                # Of several with one key the last counts, or the first.
                by_key = {row[: table.key]: row for row in (mine if replace else reversed(mine))}
                told = kind is not Replica
                sql = statements.put(table, replace=replace, told=told)
                self._change_records(sql, table, [by_key[key] for key in sorted(by_key)], told=told)

    def remove(self, records: Sequence[Record]) -> None:
        """See `Store`."""
        for kind, table in TABLES.items():
            keys = {table.key_of(record) for record in records if type(record) is kind}
            if keys:
                told = kind is not Replica
                self._change_records(statements.remove(table, told=told), table, sorted(keys), told=told)

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """See `Store`."""
        # Of two at one place the first counts.
        first = {(one.job_id, one.attempt, one.offset): one for one in reversed(chunks) if one.text}
        if not first:
            return
        self._demand(key[0] for key in first)
        values = arrays.columns(_LOG_KINDS, [_log_row(first[key]) for key in sorted(first)])
        if self._connection.change(statements.INSERT_LOGS, values):
            self._connection.tell({key[0] for key in first})

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        """See `Store`."""
        if events:
            values = arrays.columns(_AUDIT_KINDS, [_audit_row(event) for event in events])
            self._connection.change(statements.INSERT_AUDIT, values)

    def _job_row(self, job: Job, defined: int) -> Row:
        row = [*rows.job_row(job), self._connection.number, defined]
        row[_REASON] = arrays.keep_nul(job.state_reason)
        if row[_DEDUPE] is not None:
            row[_DEDUPE] = tags.digest(row[_DEDUPE])
        return tuple(row)

    def _update(self, jobs: Sequence[Job], redefined: set[int]) -> None:
        if not jobs:
            return
        new = [self._job_row(job, job.revision if job.job_id in redefined else 0) for job in jobs]
        if self._connection.change(statements.UPDATE_JOBS, arrays.columns(_JOB_KINDS, new)) != len(jobs):
            names = ", ".join(show("job", job.job_id) for job in jobs[:10])
            raise self._connection.spoil(Conflict(what=f"One of the jobs {names}"))

    def _saved(self, jobs: Sequence[Job]) -> None:
        self._definitions.update((job.job_id, job.definition) for job in jobs)
        if jobs:
            self._connection.tell()

    def _demand(self, job_ids: Iterable[int]) -> None:
        wanted = set(job_ids)
        self._connection.demand_open()
        found = {job_id for (job_id,) in self._connection.rows(statements.KEEP_JOBS, [arrays.numbers(sorted(wanted))])}
        if found != wanted:
            missing = ", ".join(show("job", job_id) for job_id in sorted(wanted - found)[:10])
            raise self._connection.spoil(IntegrityViolation(f"there is no {missing}"))

    def _change_records(self, sql: str, table: Table, new: Sequence[Row], *, told: bool) -> None:
        types = statements.kinds(table.name, table.columns[: len(new[0])])
        values = arrays.columns(types, new)
        if told:
            values.append(arrays.texts(dumps(row[: table.key]) for row in new))
            values += [str(self._connection.sequence()), str(self._connection.number)]
        if self._connection.change(sql, values) and told:
            self._connection.tell()


class PostgresStore(PostgresTables):
    """The store in the database at `url` (postgresql://...), which is filled where it is empty.

    Raises `StoreRefused` where it is no store that this program can work on. A pool that gives each transaction another
    connection (pgbouncer in its mode `transaction`) cannot stand between: a listener keeps its connection.
    """

    def __init__(self, url: str) -> None:
        address = schema.read(url)
        checked = schema.open_checked(address)
        try:
            writer = opened(address, checked.channel, DatabaseClock())
        except Exception as error:
            raise StoreRefused(refusing.lost(address)) from error
        super().__init__(address, checked.channel, writer, writer)
        self.shown = address.shown
        # What the server is set to lose, in words for the log.
        self.warnings = checked.warnings


def _definition_row(job: Job, defined: int) -> Row:
    row = rows.definition_row(job)
    asked = job.definition
    request = tags.request(asked.tenant, asked.user, asked.request_id) if asked.request_id else None
    return (*row, request, tags.text(row[_LABELS]), defined)


def _lane_row(lane: Lane) -> Row:
    row = side_rows.lane_row(lane)
    return (*row, tags.digest(dumps(row[1:])))


def _log_row(chunk: LogChunk) -> Row:
    row = list(side_rows.log_row(chunk))
    row[_TEXT] = arrays.keep_nul(chunk.text)
    return tuple(row)


def _audit_row(event: AuditEvent) -> Row:
    return tuple(arrays.keep_nul(value) if isinstance(value, str) else value for value in side_rows.audit_row(event))
