"""Sample jobs, lanes and records, and a short way to fill a store with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from towpath_server.core.job import DAY, SECOND, Definition, Job, JobState, Lease, Priority
from towpath_server.core.records import Lane
from towpath_server.store.base import Store

NOW = 1_800_000_000_000_000
WORKER = 77
LEASED = (JobState.LEASED, JobState.RUNNING, JobState.CANCELLING)


def lane(lane_id: int = 1, **changes: Any) -> Lane:
    """A lane, by default like `definition()`."""
    return replace(Lane(lane_id=lane_id, tenant="acme", user="ann", queue="default", job_type="train"), **changes)


def definition(**changes: Any) -> Definition:
    """What a submitter asked for."""
    plain = Definition(tenant="acme", user="ann", job_type="train", spec=b"\x00spec", create_time=NOW)
    return replace(plain, **changes)


def job(job_id: int, state: JobState = JobState.QUEUED, *, of: Lane | None = None, **changes: Any) -> Job:
    """A job of a lane in a state, with what the state asks for. `changes` name fields of Job or of Definition."""
    home = of or lane()
    asked = {name: changes.pop(name) for name in list(changes) if name in Definition.__dataclass_fields__}
    queued = Job(
        job_id=job_id,
        definition=definition(
            tenant=home.tenant,
            user=home.user,
            queue=home.queue,
            job_type=home.job_type,
            requirements=home.requirements,
            concurrency_key=home.concurrency_key,
            **asked,
        ),
        lane_id=home.lane_id,
        priority=Priority.NORMAL,
        position=job_id,
        sequence=job_id,
        state=JobState.QUEUED,
        update_time=NOW,
        queue_time=NOW + job_id,
    )
    return replace(at(queued, state), **changes)


def at(one: Job, state: JobState, **changes: Any) -> Job:
    """The job in another state, at the same revision."""
    held = state in LEASED
    token = f"token-{one.job_id}-{one.attempt + 1}"
    return replace(
        one,
        **{
            "state": state,
            "lease": Lease(token, WORKER, "session", state is not JobState.LEASED) if held else None,
            "last_token": token if held else one.last_token,
            "worker_id": WORKER if held else one.worker_id,
            "attempt": one.attempt + 1 if held else one.attempt,
            "lease_time": NOW + 1 if held else one.lease_time,
            "start_time": NOW + 2 if held and state is not JobState.LEASED else None,
            "end_time": NOW + 5 * SECOND if state.is_final else None,
            "due_time": NOW + 7 * DAY if state.is_final else None,
            "result": b"\xffresult" if state is JobState.SUCCEEDED else None,
            **changes,
        },
    )


def after(one: Job, **changes: Any) -> Job:
    """The job as its next save stores it."""
    return replace(one, revision=one.revision + 1, **changes)


def fill(store: Store, jobs: Sequence[Job], lanes: Sequence[Lane] = ()) -> None:
    """Adds lanes (by default `lane()`) and jobs in one transaction."""
    with store.transaction():
        store.add_lanes(lanes or [lane()])
        store.insert(jobs)
