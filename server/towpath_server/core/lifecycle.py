"""The life of a job: the one place where states change.

Everything that decides in which state a job is lives in this file. `TRANSITIONS` says which moves there are; `apply`
makes them. Nothing here reads a clock or draws a random number: both come with the call. The diagram in
docs/lifecycle.md is drawn from the table.

A lease token proves the right to speak for an attempt. It is checked here, before anything else: a worker whose lease
is over gets `LeaseSuperseded` and changes nothing, whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from towpath_server.core import retry
from towpath_server.core.clocks import due_after, next_due
from towpath_server.core.errors import IllegalTransition, LeaseSuperseded
from towpath_server.core.events import (
    Adopted,
    Cancel,
    Changed,
    Claimed,
    Confirmed,
    Due,
    Event,
    Failed,
    Forced,
    OfferLost,
    Pause,
    Progressed,
    Released,
    Resume,
    Retry,
    Started,
    Succeeded,
    TimedOut,
    Timeout,
    WorkerLost,
)
from towpath_server.core.evolve import evolve
from towpath_server.core.ids import show
from towpath_server.core.job import SECOND, UNBORN, Definition, Failure, FailureCause, Job, JobState, Lease, Priority

# What the scheduler allows beyond the grace for the worker's own kill to be told.
FORCE_MARGIN = 5 * SECOND


S = JobState

TRANSITIONS: Mapping[JobState, Mapping[type[Event], tuple[JobState, ...]]] = {
    S.SCHEDULED: {
        Due: (S.QUEUED,),
        TimedOut: (S.TIMED_OUT,),
        Cancel: (S.CANCELLED,),
        Pause: (S.PAUSED,),
        Changed: (S.SCHEDULED,),
    },
    S.QUEUED: {
        Claimed: (S.LEASED,),
        Adopted: (S.RUNNING,),
        Succeeded: (S.SUCCEEDED,),
        TimedOut: (S.TIMED_OUT,),
        Cancel: (S.CANCELLED,),
        Pause: (S.PAUSED,),
        Changed: (S.QUEUED,),
    },
    S.LEASED: {
        Confirmed: (S.LEASED,),
        Adopted: (S.LEASED,),
        Started: (S.RUNNING,),
        Progressed: (S.RUNNING,),
        OfferLost: (S.QUEUED, S.LEASED),
        Released: (S.QUEUED, S.FAILED),
        Succeeded: (S.SUCCEEDED,),
        Failed: (S.SCHEDULED, S.FAILED),
        WorkerLost: (S.QUEUED, S.FAILED),
        TimedOut: (S.TIMED_OUT,),
        Cancel: (S.CANCELLING, S.CANCELLED),
        Pause: (S.PAUSED,),
        Changed: (S.LEASED,),
    },
    S.RUNNING: {
        Confirmed: (S.RUNNING,),
        Adopted: (S.RUNNING,),
        Started: (S.RUNNING,),
        Progressed: (S.RUNNING,),
        Released: (S.QUEUED, S.FAILED),
        Succeeded: (S.SUCCEEDED,),
        Failed: (S.SCHEDULED, S.FAILED),
        WorkerLost: (S.QUEUED, S.FAILED),
        TimedOut: (S.TIMED_OUT, S.SCHEDULED),
        Cancel: (S.CANCELLING, S.CANCELLED),
        Pause: (S.PAUSED,),
        Changed: (S.RUNNING,),
    },
    S.CANCELLING: {
        Confirmed: (S.CANCELLING,),
        Adopted: (S.CANCELLING,),
        Started: (S.CANCELLING,),
        Progressed: (S.CANCELLING,),
        Released: (S.CANCELLED,),
        Succeeded: (S.SUCCEEDED,),
        Failed: (S.CANCELLED,),
        WorkerLost: (S.CANCELLED,),
        Forced: (S.CANCELLED,),
        Cancel: (S.CANCELLING, S.CANCELLED),
        Changed: (S.CANCELLING,),
    },
    S.PAUSED: {
        Resume: (S.QUEUED, S.SCHEDULED),
        TimedOut: (S.TIMED_OUT,),
        Cancel: (S.CANCELLED,),
        Pause: (S.PAUSED,),
        Changed: (S.PAUSED,),
    },
    S.SUCCEEDED: {Succeeded: (S.SUCCEEDED,), Cancel: (S.SUCCEEDED,), Retry: (S.QUEUED,)},
    S.FAILED: {Failed: (S.FAILED,), Cancel: (S.FAILED,), Retry: (S.QUEUED,)},
    S.CANCELLED: {Released: (S.CANCELLED,), Cancel: (S.CANCELLED,), Retry: (S.QUEUED,)},
    S.TIMED_OUT: {Cancel: (S.TIMED_OUT,), Retry: (S.QUEUED,)},
}


def create(job_id: int, definition: Definition, lane_id: int, priority: Priority, now: int, *, reason: str = "") -> Job:
    """A new job: SCHEDULED where it is to run later, else QUEUED."""
    later = definition.schedule_time is not None and definition.schedule_time > now
    job = evolve(
        UNBORN,
        job_id=job_id,
        definition=definition,
        lane_id=lane_id,
        priority=priority,
        position=job_id,
        state=S.SCHEDULED if later else S.QUEUED,
        state_reason=reason,
        update_time=now,
        queue_time=definition.schedule_time if later else now,
    )
    return evolve(job, due_time=next_due(job))


def apply(job: Job, event: Event, now: int) -> Job:
    """The job after the event, or the same object where nothing changes.

    Raises `LeaseSuperseded` for a worker whose lease is over and `IllegalTransition` for a move that is not in the
    table. `revision` is left alone: it counts what was stored, and several events may be stored as one change.
    """
    # Only what a worker tells has a token.
    if (token := getattr(event, "token", None)) is not None:
        _check_lease(job, token, event)
    targets = TRANSITIONS[job.state].get(type(event))
    if targets is None:
        raise IllegalTransition(job_id=show("job", job.job_id), state=job.state.name, verb=_VERBS[type(event)])
    changed: Job = _MOVES[type(event)](job, event, now)
    if changed is job:
        return job
    assert changed.state in targets, (job.state, event, changed.state)
    return evolve(changed, update_time=now, due_time=due_after(job, changed))


def _check_lease(job: Job, token: str, event: Event) -> None:
    if token and job.lease is not None and job.lease.token == token:
        return
    # A result that was told before is told again until it is acked; one that comes late still counts while nobody
    # else was given the job.
    if token and job.lease is None and job.last_token == token and type(event) in _AFTER_THE_LEASE[job.state]:
        return
    raise LeaseSuperseded(job_id=show("job", job.job_id))


def _over(job: Job, state: JobState, now: int, reason: str, *, last_token: str = "") -> Job:
    """Without its lease: waiting in another state, or final."""
    # Kept where the job still tells of this attempt: it ended it, or its late result may yet come.
    lease_time = job.lease_time if last_token or (state.is_final and job.lease is not None) else None
    return evolve(
        job,
        state=state,
        state_reason=reason,
        lease=None,
        last_token=last_token,
        lease_time=lease_time,
        kill_time=None,
        stall_time=None,
        end_time=now if state.is_final else None,
    )


def _token(job: Job) -> str:
    return job.lease.token if job.lease is not None else job.last_token


def _requeued(job: Job, now: int, reason: str, *, last_token: str = "") -> Job:
    # The position is kept: the job goes back to the head of its lane.
    waiting = _over(job, S.QUEUED, now, reason, last_token=last_token)
    return evolve(waiting, queue_time=now, start_time=None, progress=None)


def _due(job: Job, event: Due, now: int) -> Job:
    return evolve(job, state=S.QUEUED, state_reason="", queue_time=now)


def _claimed(job: Job, event: Claimed, now: int) -> Job:
    return evolve(
        job,
        state=S.LEASED,
        state_reason="",
        lease=event.lease,
        last_token=event.lease.token,
        worker_id=event.lease.worker_id,
        lease_time=now,
        start_time=None,
        progress=None,
        attempt=job.attempt + 1,
    )


def _confirmed(job: Job, event: Confirmed, now: int) -> Job:
    if job.lease is None or job.lease.confirmed:
        return job
    return evolve(job, lease=replace(job.lease, confirmed=True))


def _adopted(job: Job, event: Adopted, now: int) -> Job:
    if job.lease is not None:
        return evolve(job, lease=replace(job.lease, session_id=event.session_id, confirmed=True))
    # The worker was away, and nobody else was given the job: the delivery was not lost after all. Its clocks begin
    # anew, for while its machine slept nothing could run.
    assert job.worker_id is not None
    lease = Lease(job.last_token, job.worker_id, event.session_id, confirmed=True)
    again = evolve(job, state=S.RUNNING, state_reason="", lease=lease, lost_count=job.lost_count - 1)
    return evolve(again, lease_time=now, start_time=now, stall_time=now)


def _offer_lost(job: Job, event: OfferLost, now: int) -> Job:
    if job.lease is not None and job.lease.confirmed:
        return job
    # The number is given to the next delivery: as far as anybody knows, this one never was.
    waiting = _requeued(job, now, "the worker did not answer to the offer")
    return evolve(waiting, attempt=job.attempt - 1, worker_id=None)


def _started(job: Job, event: Started, now: int) -> Job:
    if job.start_time is not None or job.lease is None:
        return job
    state = S.RUNNING if job.state is S.LEASED else job.state
    return evolve(job, state=state, lease=replace(job.lease, confirmed=True), start_time=now, stall_time=now)


def _progressed(job: Job, event: Progressed, now: int) -> Job:
    # What comes further has started, whether that was told or not.
    running = _started(job, Started(event.token), now)
    return evolve(running, progress=event.progress or job.progress, stall_time=now)


def _succeeded(job: Job, event: Succeeded, now: int) -> Job:
    if job.state is S.SUCCEEDED:
        return job
    done = _over(job, S.SUCCEEDED, now, "", last_token=_token(job))
    return evolve(
        done,
        result=event.result,
        failure=None,
        attempt_count=job.attempt_count + 1,
        # A late one: the delivery that was counted as lost was not.
        lost_count=job.lost_count - (job.lease is None),
        start_time=job.start_time or now,
    )


def _failed(job: Job, event: Failed, now: int) -> Job:
    if job.state is S.FAILED:
        return job
    if job.state is S.CANCELLING:
        return _over(job, S.CANCELLED, now, job.state_reason, last_token=_token(job))
    counted = evolve(job, attempt_count=job.attempt_count + 1, failure=event.failure)
    if retry.may_retry(counted, event.failure):
        return _backed_off(counted, event.random, now)
    return _over(counted, S.FAILED, now, event.failure.message, last_token=_token(job))


def _backed_off(job: Job, random: float, now: int) -> Job:
    wait = retry.backoff(job.definition.retry, job.attempt_count, random)
    later = _over(job, S.SCHEDULED, now, f"attempt {job.attempt_count} of {job.definition.retry.max_attempts} failed")
    return evolve(later, queue_time=now + wait, start_time=None, progress=None)


def _released(job: Job, event: Released, now: int) -> Job:
    if job.state is S.CANCELLED:
        return job
    if job.state is S.CANCELLING:
        return _over(job, S.CANCELLED, now, job.state_reason, last_token=_token(job))
    if event.unable:
        return _lost(job, now, f"the worker could not run it: {event.message}")
    return _requeued(job, now, event.message or "the worker gave it back")


def _worker_lost(job: Job, event: WorkerLost, now: int) -> Job:
    if job.state is S.CANCELLING:
        return _over(job, S.CANCELLED, now, job.state_reason)
    if job.lease is not None and not job.lease.confirmed:
        return _offer_lost(job, OfferLost(), now)
    return _lost(job, now, "the worker was lost")


def _lost(job: Job, now: int, reason: str) -> Job:
    counted = evolve(job, lost_count=job.lost_count + 1)
    if retry.may_redeliver(counted):
        return _requeued(counted, now, reason, last_token=_token(job))
    message = f"{reason}, {counted.lost_count} times in all; max_lost is {job.definition.max_lost}"
    failure = Failure(FailureCause.WORKER_LOST, "WorkerLost", message, retryable=False)
    return evolve(_over(counted, S.FAILED, now, message), failure=failure)


def _timed_out(job: Job, event: TimedOut, now: int) -> Job:
    limit: int = getattr(job.definition.timeouts, event.timeout.name.lower())
    message = f"{event.timeout.value} of {limit / SECOND:g} s is over"
    failure = Failure(FailureCause.TIMEOUT, event.timeout.value, message)
    ran = job.state is S.RUNNING
    counted = evolve(job, failure=failure, attempt_count=job.attempt_count + ran)
    policy = job.definition.retry
    if ran and event.timeout is not Timeout.TOTAL and policy.retry_timeouts and retry.may_retry(counted, failure):
        return _backed_off(counted, event.random, now)
    return _over(counted, S.TIMED_OUT, now, failure.message)


def _cancel(job: Job, event: Cancel, now: int) -> Job:
    if job.state.is_final:
        return job
    known = job.state_reason if job.state is S.CANCELLING else ""
    reason = event.reason or known or "cancelled"
    if job.lease is None or event.force:
        return _over(job, S.CANCELLED, now, reason)
    if job.state is S.CANCELLING:
        return job
    kill_time = now + job.definition.timeouts.cancel_grace + FORCE_MARGIN
    return evolve(job, state=S.CANCELLING, state_reason=reason, kill_time=kill_time)


def _forced(job: Job, event: Forced, now: int) -> Job:
    return _over(job, S.CANCELLED, now, job.state_reason)


def _pause(job: Job, event: Pause, now: int) -> Job:
    if job.state is S.PAUSED:
        return job
    return evolve(_over(job, S.PAUSED, now, "paused"), start_time=None, progress=None)


def _resume(job: Job, event: Resume, now: int) -> Job:
    if job.queue_time is not None and job.queue_time > now:
        return evolve(job, state=S.SCHEDULED, state_reason="")
    return evolve(job, state=S.QUEUED, state_reason="", queue_time=now)


def _retry(job: Job, event: Retry, now: int) -> Job:
    return evolve(
        _requeued(job, now, "retried"),
        position=event.position,
        attempt_count=0,
        lost_count=0,
        result=None,
        failure=None,
    )


def _changed(job: Job, event: Changed, now: int) -> Job:
    return evolve(job, definition=event.definition, priority=event.priority)


# Mypy cannot tie a table's key to its value's argument; `apply` is the one caller.
_MOVES: Mapping[type[Event], Callable[..., Job]] = {
    Due: _due,
    Claimed: _claimed,
    Confirmed: _confirmed,
    Adopted: _adopted,
    OfferLost: _offer_lost,
    Started: _started,
    Progressed: _progressed,
    Succeeded: _succeeded,
    Failed: _failed,
    Released: _released,
    WorkerLost: _worker_lost,
    TimedOut: _timed_out,
    Cancel: _cancel,
    Forced: _forced,
    Pause: _pause,
    Resume: _resume,
    Retry: _retry,
    Changed: _changed,
}

_AFTER_THE_LEASE: Mapping[JobState, tuple[type[Event], ...]] = {
    **dict.fromkeys(JobState, ()),
    S.QUEUED: (Succeeded, Adopted),
    S.SUCCEEDED: (Succeeded,),
    S.FAILED: (Failed,),
    S.CANCELLED: (Released,),
}

_VERBS: Mapping[type[Event], str] = {
    Due: "queued",
    Claimed: "leased",
    Confirmed: "confirmed",
    Adopted: "carried on",
    OfferLost: "offered again",
    Started: "started",
    Progressed: "continued",
    Succeeded: "completed",
    Failed: "failed",
    Released: "given back",
    WorkerLost: "taken back",
    TimedOut: "timed out",
    Cancel: "cancelled",
    Forced: "killed",
    Pause: "paused",
    Resume: "resumed",
    Retry: "retried",
    Changed: "changed",
}
