"""The small store in memory: the model that the others are compared with. Obviously right rather than quick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace

from towpath_server.core.errors import Conflict
from towpath_server.core.ids import show
from towpath_server.core.job import Attempt, Job, JobState
from towpath_server.core.quotas import Owner, Use
from towpath_server.core.records import AuditEvent, Head, Lane, LogChunk
from towpath_server.store.base import (
    ByDedupe,
    ByRequest,
    Count,
    Due,
    HeldBy,
    InLane,
    IntegrityViolation,
    Matching,
    Origin,
    OwnedBy,
    Query,
    Record,
    Recorded,
    RecordKey,
    RecordT,
    Store,
    key_of,
)
from towpath_server.store.memory_matching import dispatch_order, fits, follows, oldest, recorded
from towpath_server.store.usage import counted


@dataclass(frozen=True, slots=True)
class _Tables:
    jobs: dict[int, Job] = field(default_factory=dict)
    attempts: dict[tuple[int, int], Attempt] = field(default_factory=dict)
    logs: dict[tuple[int, int, int], LogChunk] = field(default_factory=dict)
    lanes: dict[int, Lane] = field(default_factory=dict)
    records: dict[tuple[type[Record], RecordKey], Record] = field(default_factory=dict)
    audit: dict[int, AuditEvent] = field(default_factory=dict)

    def copy(self) -> _Tables:
        return _Tables(*(getattr(self, part.name).copy() for part in fields(self)))


class MemoryStore:
    """Nothing lasts. A transaction works on a copy of everything, which takes the place of the old at its end."""

    name = "memory"

    def __init__(self) -> None:
        self._committed = _Tables()
        self._changed: _Tables | None = None
        self._spoiled: Exception | None = None
        self._source: MemoryStore | None = None
        self._sequence = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`."""
        if self._changed is not None:
            raise RuntimeError("a transaction is open already")
        self._changed, self._spoiled = (self._source or self)._committed.copy(), None
        try:
            yield
            if self._spoiled is not None:
                raise self._spoiled
            if self._source is None:
                self._committed = self._changed
        finally:
            self._changed = None

    def reader(self) -> Store:
        """See `Store`."""
        view = MemoryStore()
        view._source = self
        return view

    def origin(self, now: int) -> Origin:
        """See `Store`."""
        since = self.sequence(self.sequence(now) + 1000)
        return Origin(since, since)

    def sequence(self, now: int) -> int:
        """See `Store`."""
        self._sequence = max(self._sequence + 1, now)
        return self._sequence

    def insert(self, jobs: Sequence[Job]) -> None:
        """See `Store`."""
        tables = self._writable
        taken = {_request(job) for job in tables.jobs.values()}
        for job in jobs:
            if job.job_id in tables.jobs:
                raise self._spoil(IntegrityViolation(f"job {job.job_id} is there already"))
            if job.lane_id not in tables.lanes:
                raise self._spoil(IntegrityViolation(f"lane {job.lane_id} of job {job.job_id} is not there"))
            if job.definition.request_id and _request(job) in taken:
                raise self._spoil(IntegrityViolation(f"request_id {job.definition.request_id} is there already"))
            tables.jobs[job.job_id] = job
            taken.add(_request(job))
        self._demand_unique()

    def load(self, job_ids: Sequence[int]) -> dict[int, Job]:
        """See `Store`."""
        jobs = self._tables.jobs
        return {job_id: jobs[job_id] for job_id in job_ids if job_id in jobs}

    def save(self, jobs: Sequence[Job], past: Sequence[Attempt] = ()) -> None:
        """See `Store`."""
        tables = self._writable
        new = {job.job_id: job for job in jobs}
        for job in jobs:
            before = tables.jobs.get(job.job_id)
            if before is None or before.revision != job.revision - 1 or len(new) < len(jobs):
                raise self._spoil(Conflict(what=f"Job {show('job', job.job_id)}"))
        tables.jobs.update(new)
        self._demand_unique()
        for attempt in past:
            self._demand(attempt.job_id)
            tables.attempts[attempt.job_id, attempt.number] = attempt

    def delete(self, job_ids: Sequence[int]) -> None:
        """See `Store`."""
        tables = self._writable
        for job_id in job_ids:
            tables.jobs.pop(job_id, None)
        for attempt in [key for key in tables.attempts if key[0] not in tables.jobs]:
            del tables.attempts[attempt]
        for chunk in [key for key in tables.logs if key[0] not in tables.jobs]:
            del tables.logs[chunk]

    def find(self, query: Query, limit: int) -> list[Job]:
        """See `Store`."""
        jobs = sorted(self._tables.jobs.values(), key=lambda job: job.job_id)
        skip = 0
        match query:
            case ByRequest(tenant, user, request_ids):
                asked = {(tenant, user, request_id) for request_id in request_ids if request_id}
                found = [job for job in jobs if _request(job) in asked]
            case ByDedupe(tenant, user, keys):
                asked = {(tenant, user, key) for key in keys if key}
                found = [job for job in jobs if _dedupe(job) in asked and not job.state.is_final]
            case InLane(lane_id):
                mine = (job for job in jobs if job.lane_id == lane_id and job.state is JobState.QUEUED)
                found = sorted(mine, key=dispatch_order)
            case Due(now, final):
                mine = (job for job in jobs if job.state.is_final == final)
                due = ((job.due_time, job) for job in mine if job.due_time is not None)
                found = [job for time, job in sorted(due, key=lambda pair: pair[0]) if time <= now]
            case HeldBy(session_id):
                found = [job for job in jobs if job.lease is not None and job.lease.session_id == session_id]
            case OwnedBy(job_ids, tenant, user):
                owned = (job for job in jobs if job.definition.tenant == tenant)
                found = [job for job in owned if job.job_id in job_ids and user in (None, job.definition.user)]
            case Matching(dispatch_order=True):
                found = sorted((job for job in jobs if fits(job, query)), key=dispatch_order)
                skip = query.after or 0
            case Matching(changed_after=int()):
                found = sorted((job for job in jobs if fits(job, query)), key=lambda job: job.sequence)
            case Matching():
                found = [job for job in jobs if fits(job, query) and follows(job, query)]
                found = found if query.ascending else found[::-1]
        return found[skip : skip + limit]

    def count(self, matching: Matching) -> list[Count]:
        """See `Store`."""
        groups: dict[tuple[str, JobState], list[Job]] = {}
        for job in self._tables.jobs.values():
            if fits(job, matching):
                groups.setdefault((job.definition.queue, job.state), []).append(job)
        return [Count(queue, state, len(jobs), oldest(state, jobs)) for (queue, state), jobs in sorted(groups.items())]

    def usage(self, *, sizes: bool = False) -> dict[Owner, Use]:
        """See `Store`."""
        return counted(self._tables.jobs.values(), self._tables.logs.values(), sizes=sizes)

    def next_due(self, *, final: bool = False) -> int | None:
        """See `Store`."""
        jobs = (job for job in self._tables.jobs.values() if job.state.is_final == final)
        return min((job.due_time for job in jobs if job.due_time is not None), default=None)

    def attempts(self, job_id: int) -> list[Attempt]:
        """See `Store`."""
        return [attempt for key, attempt in sorted(self._tables.attempts.items()) if key[0] == job_id]

    def lanes(self) -> dict[Lane, Head | None]:
        """See `Store`."""
        heads: dict[int, Head] = {}
        for job in self._tables.jobs.values():
            if job.state is JobState.QUEUED:
                head = Head(job.priority, -job.position)
                heads[job.lane_id] = max(head, heads.get(job.lane_id, head))
        return {lane: heads.get(lane_id) for lane_id, lane in sorted(self._tables.lanes.items())}

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """See `Store`."""
        tables = self._writable
        known = {replace(lane, lane_id=0) for lane in tables.lanes.values()}
        for lane in lanes:
            if lane.lane_id in tables.lanes:
                continue
            if replace(lane, lane_id=0) in known:
                raise self._spoil(IntegrityViolation(f"lane {lane.lane_id} is there under another id"))
            tables.lanes[lane.lane_id] = lane
            known.add(replace(lane, lane_id=0))

    def put(self, records: Sequence[Record], *, replace: bool = True) -> None:
        """See `Store`."""
        known = self._writable.records
        known.update((_key(record), record) for record in records if replace or _key(record) not in known)

    def remove(self, records: Sequence[Record]) -> None:
        """See `Store`."""
        for record in records:
            self._writable.records.pop(_key(record), None)

    def records(self, kind: type[RecordT], keys: Sequence[RecordKey] | None = None) -> list[RecordT]:
        """See `Store`."""
        found = [record for record in self._tables.records.values() if isinstance(record, kind)]
        if keys is not None:
            found = [record for record in found if key_of(record) in keys]
        return sorted(found, key=key_of)

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """See `Store`."""
        tables = self._writable
        for chunk in chunks:
            if chunk.text:
                self._demand(chunk.job_id)
                tables.logs.setdefault((chunk.job_id, chunk.attempt, chunk.offset), chunk)

    def logs(self, job_id: int, attempt: int, offset: int, limit: int) -> list[LogChunk]:
        """See `Store`."""
        written = [chunk for key, chunk in sorted(self._tables.logs.items()) if key[:2] == (job_id, attempt)]
        return [chunk for chunk in written if chunk.offset + len(chunk.text.encode()) > offset][:limit]

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        """See `Store`."""
        tables = self._writable
        for event in events:
            if event.event_id in tables.audit:
                raise self._spoil(IntegrityViolation(f"audit event {event.event_id} is there already"))
            tables.audit[event.event_id] = event

    def audit(self, query: Recorded, limit: int) -> list[AuditEvent]:
        """See `Store`."""
        newest = sorted(self._tables.audit.values(), key=lambda event: -event.event_id)
        return [event for event in newest if recorded(event, query)][:limit]

    def close(self) -> None:
        """See `Store`."""

    @property
    def _tables(self) -> _Tables:
        return self._changed or (self._source or self)._committed

    @property
    def _writable(self) -> _Tables:
        if self._changed is None or self._source is not None:
            raise RuntimeError("a store is changed inside transaction() only, and never by a reader")
        return self._changed

    def _demand(self, job_id: int) -> None:
        if job_id not in self._writable.jobs:
            raise self._spoil(IntegrityViolation(f"job {job_id} is not there"))

    def _demand_unique(self) -> None:
        jobs = self._writable.jobs.values()
        keys = [_dedupe(job) for job in jobs if job.definition.dedupe_key and not job.state.is_final]
        if len(set(keys)) < len(keys):
            raise self._spoil(IntegrityViolation("two jobs that are not final have the same dedupe_key"))
        if len({job.sequence for job in jobs}) < len(jobs):
            raise self._spoil(IntegrityViolation("two jobs have the same sequence"))

    def _spoil(self, error: Exception) -> Exception:
        self._spoiled = error
        return error


def _request(job: Job) -> tuple[str, str, str]:
    return (job.definition.tenant, job.definition.user, job.definition.request_id)


def _dedupe(job: Job) -> tuple[str, str, str]:
    return (job.definition.tenant, job.definition.user, job.definition.dedupe_key)


def _key(record: Record) -> tuple[type[Record], RecordKey]:
    return (type(record), key_of(record))
