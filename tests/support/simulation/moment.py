"""When a change was committed, and what kind of change it was."""

from __future__ import annotations

from support.simulation.ledger import Step
from towpath_server.core.job import FailureCause, Job


class Moment:
    """When a commit happened, by both clocks of the scheduler (microseconds)."""

    def __init__(self, wall: int, steady: int) -> None:
        self.wall = wall
        self.steady = steady


def retried(step: Step) -> bool:
    """Whether a hand has queued the job again."""
    return step.before is not None and step.after is not None and step.before.position != step.after.position


def is_lost(job: Job) -> bool:
    """Whether the job failed because its deliveries were lost."""
    return job.failure is not None and job.failure.cause is FailureCause.WORKER_LOST
