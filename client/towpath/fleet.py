"""Workers, queues, models, tokens and the scheduler itself, as frozen values; names are the contract's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from towpath.enums import Role, TaskType, WorkerShare, WorkerState
from towpath.records import Record
from towpath.stats import JobStateCount


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFeature(Record):
    """A column that a model reads; `type` as in an MLflow signature."""

    name: str
    type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Model(Record):
    """A trained model; it lies on the worker `worker_id`."""

    model_id: str
    name: str
    version: int
    worker_id: str
    tenant: str
    user: str
    model_type: str
    task_type: TaskType
    target_column: str
    features: tuple[ModelFeature, ...]
    classes: tuple[str, ...]
    metrics: dict[str, float]
    hyperparameters: dict[str, Any]
    size_bytes: int
    create_time: datetime | None
    job_id: str

    @property
    def ref(self) -> str:
        """`name@version`, as predict takes it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu(Record):
    """One GPU; memory in MiB."""

    name: str
    memory_mb: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine(Record):
    """What a worker's machine has; memory in MiB."""

    cpu_count: int
    memory_mb: int
    gpus: tuple[Gpu, ...]
    hostname: str
    platform: str
    python_version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineLoad(Record):
    """What a worker's machine does; 0 to 100 percent of all cores, memory in MiB."""

    cpu_percent: float
    memory_used_mb: int
    free_slots: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker(Record):
    """A machine or process that runs jobs."""

    worker_id: str
    name: str
    tenant: str
    user: str
    state: WorkerState
    slots: int
    running_count: int
    job_types: tuple[str, ...]
    labels: dict[str, str]
    machine: Machine | None
    load: MachineLoad | None
    create_time: datetime | None
    connect_time: datetime | None
    heartbeat_time: datetime | None
    model_count: int
    version: str
    #: Whose jobs it runs.
    share: WorkerShare


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue(Record):
    """A named line of jobs."""

    name: str
    paused: bool
    queued_count: int
    running_count: int
    scheduled_count: int
    oldest_queued_age: timedelta | None
    create_time: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Token(Record):
    """A token, without its secret."""

    token_id: str
    name: str
    tenant: str
    user: str
    role: Role
    create_time: datetime | None
    expire_time: datetime | None
    revoke_time: datetime | None
    share: WorkerShare
    previous_expire_time: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEvent(Record):
    """Something that somebody did, or was refused; `tenant`, `user` and `token_id` are empty where nobody is known."""

    event_id: int
    event_time: datetime | None
    #: As `token.created` or `login.refused`.
    action: str
    tenant: str
    user: str
    token_id: str
    #: The address that the call came from.
    origin: str
    #: What it was done to, by its id.
    subject: str
    details: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota(Record):
    """How much a user of a tenant may have; with no user all users together, with no tenant each that has none of its
    own. None: as much as there is."""

    tenant: str
    user: str
    #: Jobs that are not final and do not run.
    max_queued: int | None
    max_running: int | None
    max_requests_per_minute: int | None
    max_result_bytes: int | None
    max_log_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotaUse(Record):
    """A quota, and what of it is in use."""

    quota: Quota
    queued_count: int
    running_count: int
    result_bytes: int
    log_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo(Record):
    """Which scheduler this is."""

    version: str
    scheduler_id: str
    store: str
    start_time: datetime | None
    max_message_bytes: int
    server_time: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerStats(Record):
    """What the scheduler holds and does, for the caller's tenant."""

    states: tuple[JobStateCount, ...]
    total_count: int
    worker_count: int
    slot_count: int
    free_slot_count: int
    parked_poll_count: int
    uptime: timedelta | None
