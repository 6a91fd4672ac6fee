"""What can happen to a job. `core/lifecycle.py` says what comes of it.

Events that a worker tells carry the token of its lease; the others are the scheduler's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from towpath_server.core.job import Definition, Failure, Lease, Priority, Progress


class Timeout(Enum):
    """Which of a job's clocks ran out."""

    QUEUE = "queue_timeout"
    EXECUTION = "execution_timeout"
    STALL = "stall_timeout"
    TOTAL = "total_timeout"


@dataclass(frozen=True, slots=True)
class Due:
    """The schedule time, or the end of a backoff, has come."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker was chosen."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The worker has mentioned its offer."""

    token: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """The worker goes on with the job in a new session."""

    token: str
    session_id: str


@dataclass(frozen=True, slots=True)
class OfferLost:
    """The worker never mentioned its offer."""


@dataclass(frozen=True, slots=True)
class Started:
    """The attempt runs."""

    token: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """The attempt came further. Without a progress: it only showed that it is alive."""

    token: str
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The attempt has a result."""

    token: str
    result: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed; `random` in [0, 1) spreads the retries."""

    token: str
    failure: Failure
    random: float = 1.0


@dataclass(frozen=True, slots=True)
class Released:
    """The worker gave the attempt back, or stopped it as it was told. `unable`: it could not run it."""

    token: str
    message: str = ""
    unable: bool = False


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker is gone, or has forgotten the attempt."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A timeout ran out; `random` in [0, 1) spreads the retries."""

    timeout: Timeout
    random: float = 1.0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody cancels the job. `force`: without the grace."""

    reason: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Forced:
    """The grace of a cancelled job is over."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Somebody holds the job back."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Somebody lets a paused job go on."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Somebody queues a final job again; `position` is its new place."""

    position: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Somebody changes what a job asks for."""

    definition: Definition
    priority: Priority


Event = (
    Due
    | Claimed
    | Confirmed
    | Adopted
    | OfferLost
    | Started
    | Progressed
    | Succeeded
    | Failed
    | Released
    | WorkerLost
    | TimedOut
    | Cancel
    | Forced
    | Pause
    | Resume
    | Retry
    | Changed
)
