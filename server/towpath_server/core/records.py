"""The small things beside jobs: workers, queues, lanes, models, tokens. Thousands of them, never millions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

from towpath_server.core.job import NO_LABELS, Priority, Requirements

NumberedT = TypeVar("NumberedT", bound=IntEnum)


# Its admins run the scheduler.
FIRST_TENANT = "default"


class Role(IntEnum):
    """What a token may do. The numbers are those of `towpath.v1.Role`; one of a later version may do nothing here."""

    ADMIN = 1
    SUBMITTER = 2
    WORKER = 3
    OPERATOR = 4
    VIEWER = 5
    ENROLLMENT = 6

    @classmethod
    def _missing_(cls, value: object) -> Role | None:
        return _later(cls, value)


class Share(IntEnum):
    """Whose jobs a worker runs. The numbers are those of `towpath.v1.WorkerShare`; one of a later version: as USER."""

    USER = 1
    TENANT = 2

    @classmethod
    def _missing_(cls, value: object) -> Share | None:
        return _later(cls, value)


def _later(kind: type[NumberedT], value: object) -> NumberedT | None:
    """What a later version has written: it is nothing that is known here, and kept as it is."""
    if not isinstance(value, int) or value <= len(kind):
        return None
    found = int.__new__(kind, value)
    found._name_, found._value_ = f"LATER_{value}", value
    return found


# Who sees what belongs to others of the tenant.
_SEES_TENANT = frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token: only the SHA-256 of its secret is kept, in hex.

    `share` is what workers with it may share at most. After a rotation the secret of before goes on as `previous_hash`
    until `previous_expire_time`; `lifetime` is how long a rotated one lives, None where its end stays as it was.
    """

    token_id: int
    secret_hash: str = field(repr=False)
    name: str
    tenant: str
    user: str
    role: Role
    create_time: int
    expire_time: int | None = None
    revoke_time: int | None = None
    share: Share = Share.USER
    lifetime: int | None = None
    previous_hash: str = field(default="", repr=False)
    previous_expire_time: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """All queued jobs that are alike for matching."""

    lane_id: int
    tenant: str
    user: str
    queue: str
    job_type: str
    requirements: Requirements = Requirements()
    concurrency_key: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Head:
    """Where the best job of a lane stands: compare with `>`; the greater goes first."""

    priority: Priority
    negative_position: int

    @property
    def position(self) -> int:
        return -self.negative_position


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A named line of jobs of one tenant."""

    tenant: str
    name: str
    create_time: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU (memory in MiB)."""

    name: str
    memory_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a machine has (memory in MiB)."""

    cpu_count: int = 0
    memory_mb: int = 0
    gpus: tuple[Gpu, ...] = ()
    hostname: str = ""
    platform: str = ""
    python_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A registered machine or process. `session_id` is empty while it is offline.

    `replica_id` is the scheduler that the session lives on; 0 where there is but one. `token_id` is the token that the
    session was begun with; 0 where it was begun by an older scheduler.
    """

    worker_id: int
    name: str
    tenant: str
    user: str
    slots: int
    job_types: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    machine: Machine = Machine()
    version: str = ""
    create_time: int
    connect_time: int
    session_id: str = ""
    draining: bool = False
    replica_id: int = 0
    share: Share = Share.USER
    token_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A model on a worker's machine. `body` holds the whole description, opaque to everything but `rpc`."""

    model_id: int
    worker_id: int
    tenant: str
    user: str
    name: str
    version: int
    model_type: str
    task_type: int
    create_time: int
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """Something that an attempt wrote: `offset` counts bytes of UTF-8 from the attempt's first."""

    job_id: int
    attempt: int
    offset: int
    text: str
    stream: int
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One of several schedulers over one store. It lives as long as `beat` grows.

    `life` is another one each time that somebody takes this number; `view` is what the others show of its workers.
    """

    replica_id: int
    life: str
    beat: int
    start_time: int
    view: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How much a user of a tenant may have; where `user` is empty, all users of the tenant together.

    Where both are empty it holds for each tenant that has no quota of its own. None: as much as there is.
    """

    tenant: str = ""
    user: str = ""
    max_queued: int | None = None
    max_running: int | None = None
    max_requests_per_minute: int | None = None
    max_result_bytes: int | None = None
    max_log_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something that somebody did, or was refused, and that must be known later. It is never changed.

    `tenant` and `user` are whose token it was, empty where there was none that is known; `origin` is the address that
    the call came from, `subject` the id of what it was done to.
    """

    event_id: int
    time: int
    action: str
    tenant: str
    user: str
    token_id: int = 0
    origin: str = ""
    subject: str = ""
    details: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, from which address, with a token that is valid until then and lets workers share so much.

    `secret_hash` says which of the token's secrets was shown.
    """

    token_id: int
    tenant: str
    user: str
    role: Role
    origin: str = ""
    expire_time: int | None = None
    share: Share = Share.USER
    secret_hash: str = field(default="", repr=False)

    def owns(self, tenant: str, user: str) -> bool:
        """Whether this caller may see what belongs to that user: its own, or by its role all of its tenant's."""
        return tenant == self.tenant and (user == self.user or self.role in _SEES_TENANT)

    def may_use(self, worker: Worker) -> bool:
        """Whether this caller may see a worker: one that it owns, or that is shared with its tenant."""
        is_shared = worker.share is Share.TENANT and worker.tenant == self.tenant
        return is_shared or self.owns(worker.tenant, worker.user)
