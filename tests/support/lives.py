"""Jobs in every situation of their life, each reached by real events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from towpath_server.core import events as e
from towpath_server.core.ids import RANDOM_BITS
from towpath_server.core.job import (
    SECOND,
    Definition,
    Failure,
    FailureCause,
    Job,
    Lease,
    Priority,
    RetryPolicy,
    Timeouts,
)
from towpath_server.core.lifecycle import apply, create

NOW = 1_700_000_000 * SECOND
MINUTE = 60 * SECOND
JOB_ID = NOW // 1000 << RANDOM_BITS
WORKER = 11
FIRST, SECOND_LEASE = "first-token", "second-token"

CRASH = Failure(FailureCause.HANDLER, "ValueError", "boom")
HOPELESS = Failure(FailureCause.HANDLER, "ValueError", "boom", retryable=False)

DEFINITION = Definition(
    tenant="acme",
    user="ann",
    job_type="train",
    timeouts=Timeouts(queue=MINUTE, execution=5 * MINUTE, stall=MINUTE, total=60 * MINUTE),
    retry=RetryPolicy(max_attempts=3, jitter=0.0, retry_timeouts=True),
    max_lost=1,
    create_time=NOW,
)
ONE_TRY = replace(DEFINITION, retry=RetryPolicy(max_attempts=1), max_lost=0)
LATER = replace(DEFINITION, schedule_time=NOW + 10 * MINUTE)


def lease(token: str = FIRST, session: str = "session-1", worker_id: int = WORKER) -> Lease:
    """An offer that nobody has confirmed."""
    return Lease(token, worker_id, session)


def born(definition: Definition = DEFINITION) -> Job:
    """A new job."""
    return create(JOB_ID, definition, 1, Priority.NORMAL, NOW)


def live(job: Job, *happened: e.Event, at: int = NOW) -> Job:
    """The job after these events, all at one moment."""
    for event in happened:
        job = apply(job, event, at)
    return job


def leased(definition: Definition = DEFINITION, token: str = FIRST) -> Job:
    """A job that was offered to a worker."""
    return live(born(definition), e.Claimed(lease(token)))


def running(definition: Definition = DEFINITION, token: str = FIRST) -> Job:
    """A job that a worker runs."""
    return live(leased(definition, token), e.Started(token))


# What a job can look like when something happens to it. States whose past matters stand here more than once.
SITUATIONS: Mapping[str, Callable[[], Job]] = {
    "scheduled": lambda: born(LATER),
    "backoff": lambda: live(running(), e.Failed(FIRST, CRASH)),
    "queued": born,
    "lost": lambda: live(running(), e.WorkerLost()),
    "offered": leased,
    "confirmed": lambda: live(leased(), e.Confirmed(FIRST)),
    "last offer": lambda: live(leased(ONE_TRY), e.Confirmed(FIRST)),
    "running": running,
    "last try": lambda: running(ONE_TRY),
    "cancelling": lambda: live(running(), e.Cancel("no need")),
    "paused": lambda: live(born(), e.Pause()),
    "paused early": lambda: live(born(LATER), e.Pause()),
    "succeeded": lambda: live(running(), e.Succeeded(FIRST, b"42")),
    "failed": lambda: live(running(), e.Failed(FIRST, HOPELESS)),
    "cancelled": lambda: live(running(), e.Cancel("no need"), e.Released(FIRST)),
    "timed out": lambda: live(running(), e.TimedOut(e.Timeout.TOTAL)),
}
