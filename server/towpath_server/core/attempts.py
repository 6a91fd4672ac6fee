"""The history of a job's deliveries: which attempts are over, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping

from towpath_server.core.job import Attempt, AttemptOutcome, Failure, FailureCause, Job, JobState

S = JobState


_FINAL_OUTCOMES: Mapping[JobState, AttemptOutcome] = {
    S.SUCCEEDED: AttemptOutcome.SUCCEEDED,
    S.FAILED: AttemptOutcome.FAILED,
    S.CANCELLED: AttemptOutcome.CANCELLED,
    S.TIMED_OUT: AttemptOutcome.TIMED_OUT,
}


def finished_attempt(before: Job, after: Job) -> Attempt | None:
    """The attempt that the history must keep because the job itself will tell of another one."""
    if after.state is S.QUEUED and before.state.is_final:
        return last_attempt(before)
    if before.lease is None or after.lease is not None or after.state.is_final or after.attempt < before.attempt:
        return None
    if after.state is S.SCHEDULED:
        timed_out = after.failure is not None and after.failure.cause is FailureCause.TIMEOUT
        outcome = AttemptOutcome.TIMED_OUT if timed_out else AttemptOutcome.FAILED
    else:
        outcome = AttemptOutcome.LOST if after.lost_count > before.lost_count else AttemptOutcome.RELEASED
    failure = after.failure if outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT) else None
    return _attempt(before, after.update_time, outcome, failure)


def last_attempt(job: Job) -> Attempt | None:
    """The attempt of which the job itself tells: the one under way, or the one that made it final."""
    if job.lease is not None:
        return _attempt(job, None, None, None)
    if not job.state.is_final or job.lease_time is None:
        return None
    failure = job.failure if job.state in (S.FAILED, S.TIMED_OUT) else None
    outcome = _FINAL_OUTCOMES[job.state]
    if failure is not None and failure.cause is FailureCause.WORKER_LOST:
        outcome = AttemptOutcome.LOST
    return _attempt(job, job.end_time, outcome, failure)


def _attempt(job: Job, end_time: int | None, outcome: AttemptOutcome | None, failure: Failure | None) -> Attempt:
    return Attempt(
        job_id=job.job_id,
        number=job.attempt,
        worker_id=job.worker_id or 0,
        lease_time=job.lease_time or 0,
        start_time=job.start_time,
        end_time=end_time,
        outcome=outcome,
        failure=failure,
    )
