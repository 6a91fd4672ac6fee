"""What goes into the scheduler's verbs and what comes out, beside the values of `core`. No protobuf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from towpath_server.core.events import Failed, Progressed, Released, Started, Succeeded
from towpath_server.core.job import NO_LABELS, ConflictPolicy, Definition, Job, JobState, Priority
from towpath_server.core.quotas import NOTHING, Use
from towpath_server.core.records import Machine, ModelRecord, Queue, Quota, Share, Worker


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to create. Tenant, user and create_time of the definition are filled in by the scheduler.

    `model` names the model that the job needs on its worker: an id, `name` or `name@version`; empty for none.
    `on_conflict`: where another job that is not final has its dedupe key.
    """

    definition: Definition
    priority: Priority = Priority.NORMAL
    model: str = ""
    on_conflict: ConflictPolicy = ConflictPolicy.REJECT


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Selects jobs; all that is set must hold."""

    states: tuple[JobState, ...] = ()
    queue: str | None = None
    job_type: str | None = None
    user: str | None = None
    workspace: str | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    worker_id: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Jobs that have changed, by their sequence; with them all changes up to `sequence` are told."""

    jobs: Sequence[Job]
    sequence: int


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a worker could run a job, and what stands against it."""

    worker: Worker
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job does not run. `position` counts from 1 in its queue's dispatch order; 0: it does not wait."""

    summary: str
    position: int
    workers: tuple[Fit, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of jobs by state, and the age in microseconds of the oldest that waits."""

    counts: Mapping[JobState, int]
    oldest_queued_age: int | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def active(self) -> int:
        return sum(count for state, count in self.counts.items() if not state.is_final)


class HeldLease(NamedTuple):
    """A lease that a worker says it holds."""

    job_id: int
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A worker that begins a session. `worker_id` is None for a new worker."""

    worker_id: int | None
    name: str
    slots: int
    job_types: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    machine: Machine = Machine()
    version: str = ""
    models: tuple[ModelRecord, ...] = ()
    held: tuple[HeldLease, ...] = ()
    share: Share = Share.USER


@dataclass(frozen=True, slots=True)
class Registered:
    """The session, with the intervals that the scheduler dictates (microseconds)."""

    worker_id: int
    session_id: str
    heartbeat_interval: int
    lease_ttl: int
    poll_timeout: int


@dataclass(frozen=True, slots=True)
class Load:
    """What a machine does (percent over all cores, MiB)."""

    cpu_percent: float = 0.0
    memory_used_mb: int = 0
    free_slots: int | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """Something that an attempt wrote."""

    token: str
    offset: int
    text: str
    stream: int
    time: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The worker lives and holds these leases; `draining`: it takes no more."""

    held: tuple[HeldLease, ...]
    load: Load = Load()
    draining: bool = False


WorkerEvent = Started | Progressed | Succeeded | Failed | Released | Logged


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that happened to a leased job. `model`: what a training has made, for the catalogue."""

    sequence: int
    job_id: int
    event: WorkerEvent
    model: ModelRecord | None = None


class DirectiveType(IntEnum):
    """What a worker is to do. The numbers are those of `towpath.v1.DirectiveType`."""

    CANCEL = 1
    KILL = 2
    PAUSE = 3
    ABANDON = 4
    DRAIN = 5
    REREGISTER = 6


@dataclass(frozen=True, slots=True)
class Directive:
    """An order to a worker; `job_id` is None where it concerns the worker itself. `grace` in microseconds."""

    type: DirectiveType
    job_id: int | None = None
    token: str = ""
    reason: str = ""
    grace: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker's session as its scheduler sees it. `last_heard` in microseconds of the wall clock."""

    running: int
    load: Load
    last_heard: int | None
    draining: bool
    #: Polls of it that wait.
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Presence:
    """The sessions of all other schedulers."""

    sessions: Mapping[str, Seen] = field(default_factory=dict)


class WorkerState(IntEnum):
    """Where a worker stands. The numbers are those of `towpath.v1.WorkerState`."""

    READY = 1
    DRAINING = 2
    OFFLINE = 3


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as people see it; times in microseconds."""

    worker: Worker
    state: WorkerState
    running: int
    load: Load
    heartbeat_time: int | None
    models: int


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue as people see it; the age in microseconds."""

    queue: Queue
    queued: int = 0
    running: int = 0
    scheduled: int = 0
    oldest_queued_age: int | None = None


@dataclass(frozen=True, slots=True)
class QuotaView:
    """A quota, and what of it is in use."""

    quota: Quota
    use: Use = NOTHING


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Which scheduler this is."""

    version: str
    scheduler_id: int
    store: str
    start_time: int
    max_message_bytes: int
    server_time: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What the scheduler holds and does for a tenant; uptime in microseconds."""

    stats: Stats
    workers: int
    slots: int
    free_slots: int
    parked_polls: int
    uptime: int
