"""What is compared of a job: the model's words, and the scheduler's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from support.machines.life_model import Life
from towpath_server.core.job import Job, JobState

BLAMED = (JobState.FAILED, JobState.TIMED_OUT)
View = dict[str, Any]


def wanted(lives: Iterable[Life]) -> list[View]:
    """The model's jobs."""
    return [
        {
            "job_id": life.job_id,
            "state": life.state,
            "owner": life.owner,
            "priority": life.priority,
            "attempt": life.attempt,
            "attempt_count": life.failures,
            "lost_count": life.lost,
            "lease": life.lease and (life.lease.token, life.lease.worker_id, life.lease.session_id),
            "confirmed": life.lease is not None and life.lease.confirmed,
            "queue_time": life.queue_time,
            "start_time": life.start_time,
            "end_time": life.end_time,
            "due_time": life.due,
            "has_result": life.state is JobState.SUCCEEDED,
            "cause": life.cause if life.state in BLAMED else None,
        }
        for life in lives
    ]


def told(jobs: Iterable[Job]) -> list[View]:
    """A scheduler's jobs."""
    return [
        {
            "job_id": job.job_id,
            "state": job.state,
            "owner": (job.definition.tenant, job.definition.user),
            "priority": job.priority,
            "attempt": job.attempt,
            "attempt_count": job.attempt_count,
            "lost_count": job.lost_count,
            "lease": job.lease and (job.lease.token, job.lease.worker_id, job.lease.session_id),
            "confirmed": job.lease is not None and job.lease.confirmed,
            "queue_time": job.queue_time,
            "start_time": job.start_time,
            "end_time": job.end_time,
            "due_time": job.due_time,
            "has_result": job.result is not None,
            "cause": job.failure.cause if job.failure is not None and job.state in BLAMED else None,
        }
        for job in jobs
    ]
