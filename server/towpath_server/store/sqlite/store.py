"""The verbs of `Store` on a SQLite file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from towpath_server.core.errors import Conflict
from towpath_server.core.ids import moment, show
from towpath_server.core.job import Attempt, Job, JobState
from towpath_server.core.quotas import Owner, Use
from towpath_server.core.records import AuditEvent, Head, Lane, LogChunk
from towpath_server.store import base, rows, side_rows, usage
from towpath_server.store.base import (
    Count,
    Matching,
    Origin,
    Query,
    Record,
    Recorded,
    RecordKey,
    RecordT,
    Store,
    StoreRefused,
)
from towpath_server.store.record_rows import TABLES
from towpath_server.store.sqlite import matching as matching_sql
from towpath_server.store.sqlite import packing, schema, statements
from towpath_server.store.sqlite.connection import Connection
from towpath_server.store.sqlite.lockfile import Locked, LockFile
from towpath_server.store.sqlite.recent import Recent

_SQL = statements.named("jobs")
_REVISION = rows.JOB_COLUMNS.index("revision") + 1
_UNCHANGED = f"jobs.revision = v.column{_REVISION} - 1"
MILLISECOND = 1000
# From here on a sequence was given by a shared store, from which this one was moved.
NOT_A_TIME = 1 << 52
_NEW_LANE = "ON CONFLICT (lane_id) DO NOTHING"
_NEW_LOG = "ON CONFLICT (job_id, attempt, offset) DO NOTHING"


class SqliteTables:
    """The verbs of `Store` on one connection."""

    name = "sqlite"

    def __init__(self, path: Path, connection: Connection) -> None:
        self._path = path
        self._connection = connection
        self._recent = Recent()
        self._sequence = int(connection.value(_SQL["last_sequence"]))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`."""
        begun = False
        try:
            with self._connection.transaction():
                begun = True
                yield
            self._recent.commit()
        finally:
            # One inside another is refused, and takes nothing from the outer one.
            if begun:
                self._recent.end()

    def reader(self) -> Store:
        """See `Store`."""
        return SqliteTables(self._path, Connection(self._path, read_only=True))

    def origin(self, now: int) -> Origin:
        """See `Store`."""
        # Also where the clock was put back meanwhile: by a millisecond, which is what ids know of the time.
        since = self.sequence(self.sequence(now) + MILLISECOND)
        if since < NOT_A_TIME:
            return Origin(since, since)
        greatest = self._connection.value(_SQL["greatest_job"])
        return Origin(since, max(now, 0 if greatest is None else moment(greatest) + MILLISECOND))

    def sequence(self, now: int) -> int:
        """See `Store`."""
        self._sequence = max(self._sequence + 1, now)
        return self._sequence

    def insert(self, jobs: Sequence[Job]) -> None:
        """See `Store`."""
        self._insert("jobs", rows.JOB_COLUMNS, [rows.job_row(job) for job in jobs])
        self._insert("definitions", rows.DEFINITION_COLUMNS, [rows.definition_row(job) for job in jobs])
        self._recent.stage(jobs)

    def load(self, job_ids: Sequence[int]) -> dict[int, Job]:
        """See `Store`."""
        return {job.job_id: job for job in self._jobs(job_ids)} if job_ids else {}

    def save(self, jobs: Sequence[Job], past: Sequence[Attempt] = ()) -> None:
        """See `Store`."""
        # SQLite looks at its indexes row by row, in an order of its own: who had a key leaves it before another has it.
        holders = [job for job in jobs if job.definition.dedupe_key and not job.state.is_final]
        others = [job for job in jobs if not job.definition.dedupe_key or job.state.is_final]
        self._update(others)
        self._update(holders)
        redefined = [job for job in jobs if not self._recent.has_definition(job)]
        for chunk in statements.chunks([rows.definition_row(job) for job in redefined]):
            sql = statements.update("definitions", rows.DEFINITION_COLUMNS, len(chunk))
            self._connection.change(sql, statements.flat(chunk))
        self._recent.stage(jobs)
        self._upsert("attempts", side_rows.ATTEMPT_COLUMNS, 2, [side_rows.attempt_row(one) for one in past])

    def delete(self, job_ids: Sequence[int]) -> None:
        """See `Store`."""
        # The greatest number of all is that of a job, unless that one is deleted.
        self._connection.change(_SQL["keep_sequence"], {"sequence": self._sequence})
        self._connection.change(_SQL["delete"], (rows.dumps(list(job_ids)),))
        self._recent.forget(job_ids)

    def find(self, query: Query, limit: int) -> list[Job]:
        """See `Store`."""
        picked, values = _pick(query)
        values["limit"] = limit
        if not self._connection.writes:
            return packing.jobs(self._connection, picked, values)
        return self._jobs(packing.ids(self._connection, picked, values))

    def count(self, matching: Matching) -> list[Count]:
        """See `Store`."""
        oldest: dict[str, int | None] = {}
        if not matching.states or JobState.QUEUED in matching.states:
            oldest.update(self._connection.rows(*matching_sql.oldest(matching)))
        return [
            Count(queue, JobState(state), number, oldest.get(queue) if state == JobState.QUEUED else None)
            for queue, state, number in sorted(self._connection.rows(*matching_sql.tally(matching)))
        ]

    def usage(self, *, sizes: bool = False) -> dict[Owner, Use]:
        """See `Store`."""
        return usage.asked(self._connection.rows, sizes=sizes)

    def next_due(self, *, final: bool = False) -> int | None:
        """See `Store`."""
        due: int | None = self._connection.value(_SQL["next_due_final" if final else "next_due"])
        return due

    def attempts(self, job_id: int) -> list[Attempt]:
        """See `Store`."""
        return [side_rows.read_attempt(row) for row in packing.packed(self._connection, _SQL["attempts"], (job_id,))]

    def lanes(self) -> dict[Lane, Head | None]:
        """See `Store`."""
        return dict(side_rows.read_lane(row) for row in packing.packed(self._connection, _SQL["lanes"]))

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """See `Store`."""
        self._insert("lanes", side_rows.LANE_COLUMNS, [side_rows.lane_row(lane) for lane in lanes], _NEW_LANE)

    def put(self, records: Sequence[Record], *, replace: bool = True) -> None:
        """See `Store`."""
        for kind, table in TABLES.items():
            mine = [table.row(record) for record in records if type(record) is kind]
            if replace:
                self._upsert(table.name, table.columns, table.key, mine)
            else:
                self._insert(table.name, table.columns, mine, "ON CONFLICT DO NOTHING")

    def remove(self, records: Sequence[Record]) -> None:
        """See `Store`."""
        for kind, table in TABLES.items():
            keys = [table.key_of(record) for record in records if type(record) is kind]
            for chunk in statements.chunks(keys):
                sql = statements.delete(table.name, table.columns[: table.key], len(chunk))
                self._connection.change(sql, statements.flat(chunk))

    def records(self, kind: type[RecordT], keys: Sequence[RecordKey] | None = None) -> list[RecordT]:
        """See `Store`."""
        table = TABLES[kind]
        if keys is None:
            found = self._connection.rows(statements.select(table.name, table.columns, table.key))
        else:
            found = []
            for chunk in statements.chunks(keys):
                sql = statements.select(table.name, table.columns, table.key, len(chunk))
                found += self._connection.rows(sql, statements.flat(chunk))
            found.sort(key=lambda row: row[: table.key])
        return [table.read(row) for row in found]

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """See `Store`."""
        self._insert("logs", side_rows.LOG_COLUMNS, [side_rows.log_row(one) for one in chunks if one.text], _NEW_LOG)

    def logs(self, job_id: int, attempt: int, offset: int, limit: int) -> list[LogChunk]:
        """See `Store`."""
        values = {"job_id": job_id, "attempt": attempt, "offset": offset, "limit": limit}
        return [side_rows.read_log(row) for row in self._connection.rows(_SQL["logs"], values)]

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        """See `Store`."""
        self._insert("audit", side_rows.AUDIT_COLUMNS, [side_rows.audit_row(event) for event in events])

    def audit(self, query: Recorded, limit: int) -> list[AuditEvent]:
        """See `Store`."""
        return [side_rows.read_audit(row) for row in self._connection.rows(*matching_sql.recorded(query, limit))]

    def close(self) -> None:
        """See `Store`."""
        self._connection.close()

    def _jobs(self, job_ids: Sequence[int]) -> list[Job]:
        """Those of the jobs that exist, in this order."""
        writes = self._connection.writes
        known = {job_id: self._recent.get(job_id) for job_id in job_ids} if writes else {}
        if missing := [job_id for job_id in job_ids if known.get(job_id) is None]:
            found = packing.jobs(self._connection, _SQL["by_id"], {"job_ids": rows.dumps(missing)})
            known.update((job.job_id, job) for job in found)
            if writes:
                self._recent.stage(found)
        return [job for job_id in dict.fromkeys(job_ids) if (job := known.get(job_id)) is not None]

    def _update(self, jobs: Sequence[Job]) -> None:
        for chunk in statements.chunks([rows.job_row(job) for job in jobs]):
            sql = statements.update("jobs", rows.JOB_COLUMNS, len(chunk), _UNCHANGED)
            if self._connection.change(sql, statements.flat(chunk)) != len(chunk):
                names = ", ".join(show("job", row[0]) for row in chunk[:10])
                raise self._connection.spoil(Conflict(what=f"One of the jobs {names}"))

    def _insert(self, table: str, columns: tuple[str, ...], new: Sequence[rows.Row], on_conflict: str = "") -> None:
        for chunk in statements.chunks(new):
            self._connection.change(statements.insert(table, columns, len(chunk), on_conflict), statements.flat(chunk))

    def _upsert(self, table: str, columns: tuple[str, ...], key: int, new: Sequence[rows.Row]) -> None:
        for chunk in statements.chunks(new):
            self._connection.change(statements.upsert(table, columns, key, len(chunk)), statements.flat(chunk))


class SqliteStore(SqliteTables):
    """The store in the file at `path`, which is made where there is none.

    Raises `StoreRefused` where the file is not a sound store of this version, or another scheduler has it open.
    """

    def __init__(self, path: str | Path) -> None:
        # One lock for all names of a file.
        real = Path(path).expanduser().resolve()
        schema.create_private(real)
        _refuse_other_names(real)
        self._lock = _lock(real)
        try:
            connection = schema.open_checked(real)
        except BaseException:
            self._lock.release()
            raise
        super().__init__(real, connection)

    def close(self) -> None:
        """See `Store`."""
        super().close()
        self._lock.release()


def _refuse_other_names(path: Path) -> None:
    # The lock and the write-ahead log are found by the name: by another one, another scheduler would ruin the file.
    if (names := path.stat().st_nlink) > 1:
        raise StoreRefused(
            f"{path} is one of {names} hard links to one file. Remove the others, or choose another file."
        )


def _lock(path: Path) -> LockFile:
    try:
        return LockFile(path.with_name(f"{path.name}.lock"))
    except Locked as error:
        raise StoreRefused(
            f"{path} is in use by another scheduler (process {error}). Stop that one, or choose another file."
        ) from error
    except OSError as error:
        raise StoreRefused(f"{path} cannot be locked ({error.strerror}). Put it on a local disk.") from error


def _pick(query: Query) -> tuple[str, dict[str, Any]]:
    match query:
        case base.ByRequest(tenant, user, request_ids):
            wanted = rows.dumps(request_ids)
            return _SQL["by_request"], {"tenant": tenant, "user": user, "request_ids": wanted}
        case base.ByDedupe(tenant, user, keys):
            return _SQL["by_dedupe"], {"keys": rows.dumps([rows.dumps((tenant, user, key)) for key in keys if key])}
        case base.InLane(lane_id):
            return _SQL["in_lane"], {"lane_id": lane_id}
        case base.Due(now, final):
            return _SQL["due_final" if final else "due"], {"now": now}
        case base.OwnedBy(job_ids, tenant, user):
            return _SQL["owned_by"], {"job_ids": rows.dumps(list(job_ids)), "tenant": tenant, "user": user}
        case base.HeldBy(session_id):
            return _SQL["held_by"], {"session_id": session_id}
        case Matching():
            return matching_sql.pick(query)
