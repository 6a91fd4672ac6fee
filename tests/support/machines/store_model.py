"""What a store is, written as plainly as can be: a few dicts, and a look at every job for every question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from towpath_server.core.errors import Conflict
from towpath_server.core.job import Attempt, Job, JobState
from towpath_server.core.records import Head, Lane, LogChunk, Queue, Quota, Replica, Token, Worker
from towpath_server.store.base import (
    ByDedupe,
    ByRequest,
    Count,
    Due,
    HeldBy,
    InLane,
    IntegrityViolation,
    Matching,
    OwnedBy,
    Query,
    Record,
)


@dataclass
class Model:
    """What is stored. Values are never changed, so a copy of the dicts is a copy of all."""

    jobs: dict[int, Job] = field(default_factory=dict)
    attempts: dict[tuple[int, int], Attempt] = field(default_factory=dict)
    pieces: dict[tuple[int, int, int], LogChunk] = field(default_factory=dict)
    lanes_by_id: dict[int, Lane] = field(default_factory=dict)
    kept: dict[tuple[Any, ...], Record] = field(default_factory=dict)

    def copy(self) -> Model:
        """The same, to be changed apart."""
        return Model(dict(self.jobs), dict(self.attempts), dict(self.pieces), dict(self.lanes_by_id), dict(self.kept))

    def insert(self, jobs: Sequence[Job]) -> None:
        """New jobs of known lanes; no two of a user with one request_id."""
        for job in jobs:
            _demand(job.job_id not in self.jobs and job.lane_id in self.lanes_by_id)
            self.jobs[job.job_id] = job
        self._demand_unique()

    def load(self, job_ids: Sequence[int]) -> dict[int, Job]:
        """Those that are there."""
        return {job_id: self.jobs[job_id] for job_id in job_ids if job_id in self.jobs}

    def save(self, jobs: Sequence[Job], past: Sequence[Attempt] = ()) -> None:
        """Each exactly one revision further, and each once."""
        for job in jobs:
            if job.job_id not in self.jobs or self.jobs[job.job_id].revision + 1 != job.revision:
                raise Conflict(what="a job")
            self.jobs[job.job_id] = job
        self._demand_unique()
        for attempt in past:
            _demand(attempt.job_id in self.jobs)
            self.attempts[attempt.job_id, attempt.number] = attempt

    def delete(self, job_ids: Sequence[int]) -> None:
        """Jobs and all that hangs on them."""
        for job_id in job_ids:
            self.jobs.pop(job_id, None)
        self.attempts = {key: one for key, one in self.attempts.items() if key[0] in self.jobs}
        self.pieces = {key: one for key, one in self.pieces.items() if key[0] in self.jobs}

    def find(self, query: Query, limit: int) -> list[Job]:
        """A look at every job, a sort, a cut."""
        found = [job for job in self.jobs.values() if _answers(job, query)]
        found.sort(key=lambda job: _rank(job, query))
        skip = (query.after or 0) if isinstance(query, Matching) and query.dispatch_order else 0
        return found[skip:][:limit]

    def count(self, matching: Matching) -> list[Count]:
        """By queue and state, as their values are sorted."""
        found = [job for job in self.jobs.values() if _answers(job, matching)]
        counts = []
        for queue, state in sorted({(job.definition.queue, job.state) for job in found}):
            jobs = [job for job in found if (job.definition.queue, job.state) == (queue, state)]
            times = [job.queue_time for job in jobs if job.queue_time is not None and state is JobState.QUEUED]
            counts.append(Count(queue, state, len(jobs), min(times, default=None)))
        return counts

    def next_due(self, *, final: bool) -> int | None:
        """The smallest."""
        jobs = [job for job in self.jobs.values() if job.state.is_final == final]
        return min((job.due_time for job in jobs if job.due_time is not None), default=None)

    def past(self, job_id: int) -> list[Attempt]:
        """Oldest first."""
        return [self.attempts[key] for key in sorted(self.attempts) if key[0] == job_id]

    def lanes(self) -> list[tuple[Lane, Head | None]]:
        """Each with the job that a claim would take."""
        heads = {lane_id: self.find(InLane(lane_id), 1) for lane_id in self.lanes_by_id}
        return [
            (self.lanes_by_id[lane_id], Head(jobs[0].priority, -jobs[0].position) if jobs else None)
            for lane_id, jobs in sorted(heads.items())
        ]

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """An id that is there stays as it is; a lane that is there has no second id."""
        for lane in lanes:
            if lane.lane_id not in self.lanes_by_id:
                _demand(all(replace(lane, lane_id=one.lane_id) != one for one in self.lanes_by_id.values()))
                self.lanes_by_id[lane.lane_id] = lane

    def put(self, records: Sequence[Record], *, replace: bool = True) -> None:
        """The last one with a key counts, or the first."""
        for record in records:
            if replace:
                self.kept[record_key(record)] = record
            else:
                self.kept.setdefault(record_key(record), record)

    def remove(self, records: Sequence[Record]) -> None:
        """By key."""
        for record in records:
            self.kept.pop(record_key(record), None)

    def records(self, kind: type[Record]) -> list[Record]:
        """In the order of their keys."""
        return [self.kept[key] for key in sorted(self.kept) if type(self.kept[key]) is kind]

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """What was said first counts."""
        for chunk in chunks:
            if chunk.text:
                _demand(chunk.job_id in self.jobs)
                self.pieces.setdefault((chunk.job_id, chunk.attempt, chunk.offset), chunk)

    def logs(self, job_id: int, attempt: int, offset: int, limit: int) -> list[LogChunk]:
        """What ends after the offset."""
        of_attempt = [self.pieces[key] for key in sorted(self.pieces) if key[:2] == (job_id, attempt)]
        return [chunk for chunk in of_attempt if chunk.offset + len(chunk.text.encode()) > offset][:limit]

    def _demand_unique(self) -> None:
        jobs = list(self.jobs.values())
        asked = [(_owner(job), job.definition.request_id) for job in jobs if job.definition.request_id]
        alive = [
            (_owner(job), job.definition.dedupe_key)
            for job in jobs
            if job.definition.dedupe_key and not job.state.is_final
        ]
        numbers = [job.sequence for job in jobs]
        _demand(all(len(set(values)) == len(values) for values in (asked, alive, numbers)))


def record_key(record: Record) -> tuple[Any, ...]:
    """What there is one of."""
    if isinstance(record, Queue):
        return ("queue", record.tenant, record.name)
    if isinstance(record, Token):
        return ("token", record.token_id)
    if isinstance(record, Replica):
        return ("replica", record.replica_id)
    if isinstance(record, Quota):
        return ("quota", record.tenant, record.user)
    return ("worker", record.worker_id) if isinstance(record, Worker) else ("model", record.model_id)


def _demand(holds: bool) -> None:
    if not holds:
        raise IntegrityViolation


def _owner(job: Job) -> tuple[str, str]:
    return (job.definition.tenant, job.definition.user)


def _answers(job: Job, query: Query) -> bool:
    asked = job.definition
    match query:
        case ByRequest(tenant, user, request_ids):
            return _owner(job) == (tenant, user) and asked.request_id != "" and asked.request_id in request_ids
        case ByDedupe(tenant, user, keys):
            mine = _owner(job) == (tenant, user) and not job.state.is_final
            return mine and asked.dedupe_key != "" and asked.dedupe_key in keys
        case InLane(lane_id):
            return job.lane_id == lane_id and job.state is JobState.QUEUED
        case Due(now, final):
            return job.due_time is not None and job.due_time <= now and job.state.is_final == final
        case OwnedBy(job_ids, tenant, user):
            return job.job_id in job_ids and asked.tenant == tenant and user in (None, asked.user)
        case HeldBy(session_id):
            return job.lease is not None and job.lease.session_id == session_id
    for name in ("tenant", "user", "queue", "job_type", "workspace"):
        if getattr(query, name) not in (None, getattr(asked, name)):
            return False
    if query.states and job.state not in query.states:
        return False
    if any(asked.labels.get(name) != value for name, value in query.labels.items()):
        return False
    if query.worker_id not in (None, job.worker_id):
        return False
    if query.ended_before is not None and (job.end_time is None or job.end_time > query.ended_before):
        return False
    if query.changed_after is not None and job.sequence <= query.changed_after:
        return False
    if query.after is None or query.dispatch_order:
        return True
    return job.job_id > query.after if query.ascending else job.job_id < query.after


def _rank(job: Job, query: Query) -> tuple[int, ...]:
    match query:
        case InLane() | Matching(dispatch_order=True):
            return (-job.priority, job.position)
        case Due():
            return (job.due_time or 0, job.job_id)
        case Matching(changed_after=int()):
            return (job.sequence,)
        case Matching(ascending=False):
            return (-job.job_id,)
    return (job.job_id,)
