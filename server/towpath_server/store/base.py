"""What a store can do: a dozen verbs, all taking batches, all synchronous.

A store knows no rules. It loads, saves with compare-and-set on the revision, and finds. Every call that writes is made
inside `transaction()`, by one thread at a time; reads outside of one see only what was committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from towpath_server.core.job import NO_LABELS, Attempt, Job, JobState
from towpath_server.core.quotas import Owner, Use
from towpath_server.core.records import (
    AuditEvent,
    Head,
    Lane,
    LogChunk,
    ModelRecord,
    Queue,
    Quota,
    Replica,
    Token,
    Worker,
)

Record = Token | Queue | Worker | ModelRecord | Replica | Quota
RecordT = TypeVar("RecordT", Token, Queue, Worker, ModelRecord, Replica, Quota)
RecordKey = tuple[int | str, ...]


def key_of(record: Record) -> RecordKey:
    """By what a small record is found."""
    match record:
        case Token():
            return (record.token_id,)
        case Queue():
            return (record.tenant, record.name)
        case Worker():
            return (record.worker_id,)
        case ModelRecord():
            return (record.model_id,)
        case Replica():
            return (record.replica_id,)
        case Quota():
            return (record.tenant, record.user)


class StoreRefused(Exception):
    """This store cannot be opened. The message says why and what to do."""


class IntegrityViolation(Exception):
    """A write that breaks a rule of the store itself, such as an id that is there already: a bug in the caller."""


class Contended(IntegrityViolation):
    """Somebody else changed the same things at the same moment. Tried again as a whole, it may go through."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a scheduler begins: it knows of every change up to `sequence`, and all ids were made before `moment`."""

    sequence: int
    moment: int


@dataclass(frozen=True, slots=True)
class ByRequest:
    """The jobs that were created with these request ids by this user."""

    tenant: str
    user: str
    request_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByDedupe:
    """The jobs of this user that are not final and have one of these dedupe keys."""

    tenant: str
    user: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InLane:
    """The QUEUED jobs of a lane in dispatch order: priority falling, position rising."""

    lane_id: int


@dataclass(frozen=True, slots=True)
class Due:
    """The jobs whose due_time is at or before `now`, the most overdue first: those that are not final, or the final."""

    now: int
    final: bool = False


@dataclass(frozen=True, slots=True)
class HeldBy:
    """The jobs leased under this session."""

    session_id: str


@dataclass(frozen=True, slots=True)
class OwnedBy:
    """Those of these jobs that are of the tenant, and of the user where one is given, by job_id.

    Of others nothing is read: it takes as long as for jobs that never were.
    """

    job_ids: tuple[int, ...]
    tenant: str
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The jobs that fit all that is set, by job_id (newest first unless `ascending`), after job `after`.

    `dispatch_order` lists by priority falling, then position rising, instead; `after` is then the number of jobs to
    skip. `ended_before` takes final jobs whose end_time is at or before it. `changed_after` takes jobs with a greater
    sequence, and lists by it instead.
    """

    tenant: str
    user: str | None = None
    states: tuple[JobState, ...] = ()
    queue: str | None = None
    job_type: str | None = None
    workspace: str | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    worker_id: int | None = None
    ended_before: int | None = None
    changed_after: int | None = None
    ascending: bool = False
    dispatch_order: bool = False
    after: int | None = None


Query = ByRequest | ByDedupe | InLane | Due | HeldBy | OwnedBy | Matching


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The audit events that fit all that is set, with smaller ids than `before`.

    `tenants` are those of whoever did it, None for all; an `action` that ends in a dot stands for all that begin so.
    """

    tenants: tuple[str, ...] | None = None
    action: str = ""
    user: str = ""
    subject: str = ""
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """How many jobs stand in a state of a queue; for QUEUED also when the first of them entered the queue."""

    queue: str
    state: JobState
    count: int
    oldest_queue_time: int | None


class Store(Protocol):
    """A place where jobs last. Every verb raises `StoreUnavailable` or `StoreFull` when the engine cannot serve it."""

    name: str

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside take effect together, on disk, when the block ends; none if it or any verb in it raised.

        On a reader: all reads inside see the same moment.
        """

    def reader(self) -> Store:
        """A view for another thread: committed state only, no writes. Close it before the store."""

    def origin(self, now: int) -> Origin:
        """Where a scheduler begins that opens the store `now`. Whatever it reads afterwards is at least as new."""

    def sequence(self, now: int) -> int:
        """A number for a change in this transaction: greater than all before, also those stored in earlier lives."""

    def insert(self, jobs: Sequence[Job]) -> None:
        """Add new jobs. Ids, request ids and sequences are new, lanes known and like the definitions.

        No other job that is not final has the same dedupe key of the same user.
        """

    def load(self, job_ids: Sequence[int]) -> dict[int, Job]:
        """Those of the jobs that exist, for a change inside this transaction."""

    def save(self, jobs: Sequence[Job], past: Sequence[Attempt] = ()) -> None:
        """Replace jobs, each stored at `revision - 1` (else `Conflict`), and add or replace attempts that are over."""

    def delete(self, job_ids: Sequence[int]) -> None:
        """Remove jobs with their attempts and logs."""

    def find(self, query: Query, limit: int) -> list[Job]:
        """At most `limit` jobs in the order that the query names."""

    def count(self, matching: Matching) -> list[Count]:
        """Counts of the jobs that fit, by queue and state; `after` and the order do not matter."""

    def usage(self, *, sizes: bool = False) -> dict[Owner, Use]:
        """What each user has of jobs that are not final; with `sizes` also the bytes of results and logs.

        Those who have nothing are left out. With `sizes` it looks at all that is kept.
        """

    def next_due(self, *, final: bool = False) -> int | None:
        """The smallest due_time of the jobs that are not final, or of the final."""

    def attempts(self, job_id: int) -> list[Attempt]:
        """The job's attempts that are over and were followed by another state, oldest first."""

    def lanes(self) -> dict[Lane, Head | None]:
        """Every lane with its best QUEUED job, if it has one."""

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """Add lanes. One whose lane_id is there already is left as it is; its attributes under a new id are refused."""

    def put(self, records: Sequence[Record], *, replace: bool = True) -> None:
        """Add or replace small records by their key (token_id; tenant and name; worker_id; model_id).

        Without `replace`, one whose key is there already is left as it is.
        """

    def remove(self, records: Sequence[Record]) -> None:
        """Remove small records by their key."""

    def records(self, kind: type[RecordT], keys: Sequence[RecordKey] | None = None) -> list[RecordT]:
        """All small records of a kind, or those with these keys; by their key."""

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """Add pieces of log. An empty one, or one whose offset is already stored for its attempt, is ignored."""

    def logs(self, job_id: int, attempt: int, offset: int, limit: int) -> list[LogChunk]:
        """Pieces of an attempt's log that end after `offset`, in order, at most `limit`. They do not overlap."""

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        """Add what was done. It stays as it is: nothing changes or removes it. Their ids are new."""

    def audit(self, query: Recorded, limit: int) -> list[AuditEvent]:
        """At most `limit` audit events, the newest (by event_id) first."""

    def close(self) -> None:
        """Let go of files and locks."""
