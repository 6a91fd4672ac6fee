"""Whatever happens to a job, in whatever order: what always holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from support.lives import CRASH, DEFINITION, HOPELESS, JOB_ID, LATER, MINUTE, NOW, born, lease
from towpath_server.core import events as e
from towpath_server.core.attempts import finished_attempt, last_attempt
from towpath_server.core.clocks import next_due, overdue
from towpath_server.core.errors import IllegalTransition, LeaseSuperseded
from towpath_server.core.job import SECOND, Job, JobState, Priority, Progress, RetryPolicy, Timeouts
from towpath_server.core.lifecycle import TRANSITIONS, apply

HELD = {JobState.LEASED, JobState.RUNNING, JobState.CANCELLING}
FINAL = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT}


def limits(step: int) -> Timeouts:
    """Timeouts that were changed at this step."""
    return Timeouts(queue=step, execution=step, stall=step, total=step * SECOND)


# What a worker says, with a token; and what the scheduler and people do, at a numbered step.
SAID: Mapping[str, Callable[[str], e.Event]] = {
    "confirmed": e.Confirmed,
    "adopted": lambda token: e.Adopted(token, "session-2"),
    "started": e.Started,
    "progressed": lambda token: e.Progressed(token, Progress(percent=1)),
    "alive": lambda token: e.Progressed(token, None),
    "succeeded": lambda token: e.Succeeded(token, b"42"),
    "failed": lambda token: e.Failed(token, CRASH, 0.5),
    "hopeless": lambda token: e.Failed(token, HOPELESS),
    "released": e.Released,
    "unable": lambda token: e.Released(token, "no", unable=True),
}
DONE: Mapping[str, Callable[[int], e.Event]] = {
    "due": lambda step: e.Due(),
    "claimed": lambda step: e.Claimed(lease(f"token-{step}")),
    "offer lost": lambda step: e.OfferLost(),
    "worker lost": lambda step: e.WorkerLost(),
    "queue over": lambda step: e.TimedOut(e.Timeout.QUEUE),
    "run over": lambda step: e.TimedOut(e.Timeout.EXECUTION),
    "stalled": lambda step: e.TimedOut(e.Timeout.STALL),
    "total over": lambda step: e.TimedOut(e.Timeout.TOTAL),
    "cancel": lambda step: e.Cancel(),
    "cancel now": lambda step: e.Cancel("now", force=True),
    "forced": lambda step: e.Forced(),
    "pause": lambda step: e.Pause(),
    "resume": lambda step: e.Resume(),
    "retry": lambda step: e.Retry(JOB_ID + step),
    "changed": lambda step: e.Changed(
        replace(DEFINITION, timeouts=Timeouts(step, step, step, step * SECOND)), Priority.HIGH
    ),
}

STEPS = st.lists(
    st.tuples(
        st.one_of(
            # Mostly the way a job goes, so that sequences come far.
            st.sampled_from(["claimed", "started", "due", "failed", "worker lost", "resume", "retry"]),
            st.sampled_from([*SAID, *DONE]),
        ),
        st.sampled_from(["latest", "latest", "latest", "latest", "older", "empty"]),
        st.sampled_from([0, 1, SECOND, 20 * MINUTE, -180 * MINUTE]),
    ),
    min_size=1,
    max_size=25,
)
BIRTHS = st.builds(
    lambda later, attempts, retry_timeouts, max_lost: born(
        replace(
            LATER if later else DEFINITION,
            retry=RetryPolicy(max_attempts=attempts, retry_timeouts=retry_timeouts),
            max_lost=max_lost,
        )
    ),
    st.booleans(),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 2),
)


def event_of(job: Job, name: str, whose: str, step: int) -> e.Event:
    """The event, with a token that fits the job, or does not."""
    if name in DONE:
        return DONE[name](step)
    return SAID[name]({"latest": job.last_token, "older": "token-x", "empty": ""}[whose])


def check(job: Job) -> None:
    """What holds for every job at every moment."""
    final, held, definition = job.state in FINAL, job.state in HELD, job.definition
    assert job.job_id == JOB_ID
    assert job.attempt_count <= definition.retry.max_attempts
    assert job.lost_count <= definition.max_lost + (job.state is JobState.FAILED)
    assert job.attempt >= max(job.attempt_count, job.lost_count)
    assert (job.lease is not None) == held
    assert (job.end_time is not None) == final
    assert (job.kill_time is not None) == (job.state is JobState.CANCELLING)
    assert (job.result is not None) == (job.state is JobState.SUCCEEDED)
    assert job.due_time == next_due(job)
    if job.lease is not None:
        assert job.lease.token == job.last_token
        assert job.lease_time is not None
    if job.state in {JobState.FAILED, JobState.TIMED_OUT}:
        assert job.failure is not None
    if not held and not final:
        assert (job.start_time, job.stall_time, job.progress) == (None, None, None)
    if job.state is JobState.RUNNING:
        assert job.start_time is not None
        assert job.stall_time is not None


def check_clocks(job: Job, now: int) -> None:
    """A job is due exactly when something can be done about it."""
    event = overdue(job, now, 0.5)
    due = job.due_time is not None and job.due_time <= now
    assert (event is not None) == (due and job.state not in FINAL)
    if event is not None:
        check(apply(job, event, now))


def step_on(job: Job, event: e.Event, now: int) -> Job:
    """The job after the event; the same where it was refused, which only the table may do."""
    legal = TRANSITIONS[job.state].get(type(event))
    try:
        after = apply(job, event, now)
    except LeaseSuperseded:
        assert getattr(event, "token", None) is not None
        assert job.lease is None or job.lease.token != getattr(event, "token", None)
        return job
    except IllegalTransition:
        assert legal is None
        return job
    assert legal is not None
    assert after.state in legal
    if job.state in FINAL and not isinstance(event, e.Retry):
        assert after is job
    assert after.position == (event.position if isinstance(event, e.Retry) else job.position)
    return after


@settings(max_examples=250, deadline=None)
@given(BIRTHS, STEPS)
def test_what_always_holds(job: Job, steps: list[tuple[str, str, int]]) -> None:
    check(job)
    now, numbers = NOW, set[int]()
    for step, (name, whose, passed) in enumerate(steps, start=1):
        now += passed
        after = step_on(job, event_of(job, name, whose, step), now)
        check(after)
        check_clocks(after, now)
        if (attempt := finished_attempt(job, after)) is not None:
            assert attempt.outcome is not None
            numbers.add(attempt.number)
        job = after
        current = last_attempt(job)
        assert numbers | ({current.number} if current else set()) == set(range(1, job.attempt + 1))


@settings(max_examples=100, deadline=None)
@given(BIRTHS, STEPS)
def test_left_to_its_clocks_a_job_with_a_total_timeout_ends(job: Job, steps: list[tuple[str, str, int]]) -> None:
    for step, (name, whose, _) in enumerate(steps, start=1):
        job = step_on(job, event_of(job, name, whose, step), NOW)
    for _ in range(8):
        if job.state in FINAL:
            break
        assert job.due_time is not None
        event = overdue(job, job.due_time, 0.5)
        assert event is not None
        job = apply(job, event, job.due_time)
    assert job.state in FINAL
