"""The contract's enums as strings: `JobState.RUNNING == "RUNNING"`. A value that this version does not know reads
as UNSPECIFIED."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from towpath.errors import InvalidArgument


class Named(StrEnum):
    """Takes its names in any case, also with the contract's prefix."""

    @classmethod
    def parse(cls, given: str) -> Self:
        """The member of that name; `high`, `HIGH` and `PRIORITY_HIGH` are the same."""
        try:
            return cls[given.upper().replace("-", "_").removeprefix(cls.prefix())]
        except KeyError:
            names = ", ".join(name.lower() for name in cls.__members__ if name != "UNSPECIFIED")
            raise InvalidArgument(f"{given!r} is no {cls.__name__}. Take one of: {names}.") from None

    @classmethod
    def prefix(cls) -> str:
        """What the contract writes before each name: `JOB_STATE_`."""
        return "".join(f"_{letter}" if letter.isupper() else letter for letter in cls.__name__)[1:].upper() + "_"

    @property
    def wire_name(self) -> str:
        """The contract's name: `JOB_STATE_RUNNING`."""
        return self.prefix() + self.name


class JobState(Named):
    """Where a job stands."""

    UNSPECIFIED = "UNSPECIFIED"
    SCHEDULED = "SCHEDULED"
    QUEUED = "QUEUED"
    LEASED = "LEASED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def is_final(self) -> bool:
        """A job never leaves it, except by retry."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT})


class Priority(Named):
    """Which of the waiting jobs goes first."""

    UNSPECIFIED = "UNSPECIFIED"
    LOW = "LOW"
    NORMAL = "NORMAL"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class ConflictPolicy(Named):
    """What becomes of a new job whose dedupe_key belongs to another one."""

    UNSPECIFIED = "UNSPECIFIED"
    REJECT = "REJECT"
    RETURN_EXISTING = "RETURN_EXISTING"
    REPLACE = "REPLACE"


class TaskType(Named):
    """What a model does."""

    UNSPECIFIED = "UNSPECIFIED"
    CLASSIFICATION = "CLASSIFICATION"
    REGRESSION = "REGRESSION"


class FailureCause(Named):
    """Why an attempt failed."""

    UNSPECIFIED = "UNSPECIFIED"
    HANDLER = "HANDLER"
    INVALID_INPUT = "INVALID_INPUT"
    PROCESS_DIED = "PROCESS_DIED"
    WORKER_LOST = "WORKER_LOST"
    TIMEOUT = "TIMEOUT"


class AttemptOutcome(Named):
    """What became of an attempt; UNSPECIFIED while it is under way."""

    UNSPECIFIED = "UNSPECIFIED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    LOST = "LOST"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    RELEASED = "RELEASED"


class LogStream(Named):
    """Where a piece of log came from."""

    UNSPECIFIED = "UNSPECIFIED"
    STDOUT = "STDOUT"
    STDERR = "STDERR"
    LOG = "LOG"


class WorkerState(Named):
    """Where a worker stands."""

    UNSPECIFIED = "UNSPECIFIED"
    READY = "READY"
    DRAINING = "DRAINING"
    OFFLINE = "OFFLINE"


class Role(Named):
    """What a token may do."""

    UNSPECIFIED = "UNSPECIFIED"
    ADMIN = "ADMIN"
    SUBMITTER = "SUBMITTER"
    WORKER = "WORKER"
    OPERATOR = "OPERATOR"
    VIEWER = "VIEWER"
    ENROLLMENT = "ENROLLMENT"


class WorkerShare(Named):
    """Whose jobs a worker runs: its own user's, or those of all users of its tenant."""

    UNSPECIFIED = "UNSPECIFIED"
    USER = "USER"
    TENANT = "TENANT"
