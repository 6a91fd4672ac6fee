"""Names of the contract as people type them on the command line: in lower case."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The states of a job."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class Priority(StrEnum):
    """The priorities."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class OnConflict(StrEnum):
    """What becomes of a new job whose dedupe key belongs to another one."""

    REJECT = "reject"
    RETURN_EXISTING = "return_existing"
    REPLACE = "replace"


class Task(StrEnum):
    """What a model does."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Role(StrEnum):
    """What a token may do."""

    ADMIN = "admin"
    SUBMITTER = "submitter"
    WORKER = "worker"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Share(StrEnum):
    """Whose jobs a worker may run."""

    USER = "user"
    TENANT = "tenant"
