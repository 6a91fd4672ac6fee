"""The history of a job's deliveries."""

from __future__ import annotations

import pytest

from support.lives import CRASH, FIRST, HOPELESS, NOW, ONE_TRY, SITUATIONS, WORKER, born, lease, running
from towpath_server.core import events as e
from towpath_server.core.attempts import finished_attempt, last_attempt
from towpath_server.core.job import Attempt, AttemptOutcome, Definition, FailureCause, Job
from towpath_server.core.lifecycle import apply

Out = AttemptOutcome
Told = list[tuple[int, AttemptOutcome | None]]


def history(*happened: e.Event, job: Job | None = None) -> tuple[Told, Job]:
    """The attempts, as number and outcome, that one sees in the end: those kept on the way and the job's own."""
    job = job or born()
    kept: dict[int, Attempt] = {}
    for moment, event in enumerate(happened, NOW + 1):
        after = apply(job, event, moment)
        if (attempt := finished_attempt(job, after)) is not None:
            kept[attempt.number] = attempt
        job = after
    if (attempt := last_attempt(job)) is not None:
        kept[attempt.number] = attempt
    return [(number, kept[number].outcome) for number in sorted(kept)], job


def run(token: str) -> tuple[e.Event, ...]:
    """A delivery that starts."""
    return e.Claimed(lease(token)), e.Started(token)


BACK = (*run("1"), e.Failed("1", CRASH))
LOST = (*run("1"), e.WorkerLost())
HISTORIES: dict[str, tuple[tuple[e.Event, ...], Told]] = {
    "none yet": ((), []),
    "never delivered": ((e.Cancel(),), []),
    "under way": (run("1"), [(1, None)]),
    "being cancelled": ((*run("1"), e.Cancel()), [(1, None)]),
    "offers in vain": ((e.Claimed(lease("1")), e.OfferLost(), e.Claimed(lease("2")), e.WorkerLost()), []),
    "an offer in vain, then done": (
        (e.Claimed(lease("1")), e.OfferLost(), e.Claimed(lease("2")), e.Succeeded("2", b"")),
        [(1, Out.SUCCEEDED)],
    ),
    "done at the third": (
        (*BACK, e.Due(), *run("2"), e.WorkerLost(), *run("3"), e.Succeeded("3", b"")),
        [(1, Out.FAILED), (2, Out.LOST), (3, Out.SUCCEEDED)],
    ),
    "given back": ((*run("1"), e.Released("1"), *run("2")), [(1, Out.RELEASED), (2, None)]),
    "paused": ((*run("1"), e.Pause(), e.Resume(), *run("2")), [(1, Out.RELEASED), (2, None)]),
    "timed out, then failed": (
        (*run("1"), e.TimedOut(e.Timeout.STALL), e.Due(), *run("2"), e.Failed("2", HOPELESS)),
        [(1, Out.TIMED_OUT), (2, Out.FAILED)],
    ),
    "timed out for good": ((*run("1"), e.TimedOut(e.Timeout.TOTAL)), [(1, Out.TIMED_OUT)]),
    "cancelled": ((*run("1"), e.Cancel(), e.Released("1")), [(1, Out.CANCELLED)]),
    "killed": ((*run("1"), e.Cancel(), e.Forced()), [(1, Out.CANCELLED)]),
    "cancelled while it backs off": ((*BACK, e.Cancel()), [(1, Out.FAILED)]),
    "timed out while it backs off": ((*BACK, e.TimedOut(e.Timeout.TOTAL)), [(1, Out.FAILED)]),
    "timed out in the queue after a failure": ((*BACK, e.Due(), e.TimedOut(e.Timeout.QUEUE)), [(1, Out.FAILED)]),
    "cancelled while it is paused": ((*run("1"), e.Pause(), e.Cancel()), [(1, Out.RELEASED)]),
    "cancelled after a loss": ((*LOST, e.Cancel()), [(1, Out.LOST)]),
    "timed out in the queue after a loss": ((*LOST, e.TimedOut(e.Timeout.QUEUE)), [(1, Out.LOST)]),
    "paused and cancelled after a loss": ((*LOST, e.Pause(), e.Cancel()), [(1, Out.LOST)]),
    "late, but not too late": ((*LOST, e.Succeeded("1", b"")), [(1, Out.SUCCEEDED)]),
    "late, then retried by hand": (
        (*LOST, e.Succeeded("1", b""), e.Retry(9), *run("2")),
        [(1, Out.SUCCEEDED), (2, None)],
    ),
    "lost too often": ((*LOST, *run("2"), e.WorkerLost()), [(1, Out.LOST), (2, Out.LOST)]),
    "retried by hand": (
        (*BACK, e.Cancel(), e.Retry(9), *run("2"), e.Failed("2", HOPELESS), e.Retry(10), *run("3")),
        [(1, Out.FAILED), (2, Out.FAILED), (3, None)],
    ),
    "an offer in vain after a failure": ((*BACK, e.Due(), e.Claimed(lease("2")), e.OfferLost()), [(1, Out.FAILED)]),
    "an offer in vain after a failure, cancelled": (
        (*BACK, e.Due(), e.Claimed(lease("2")), e.OfferLost(), e.Cancel()),
        [(1, Out.FAILED)],
    ),
}


@pytest.mark.parametrize(("happened", "told"), HISTORIES.values(), ids=HISTORIES)
def test_a_history(happened: tuple[e.Event, ...], told: Told) -> None:
    assert history(*happened)[0] == told


def test_an_attempt_tells_who_ran_it_when_and_what_went_wrong() -> None:
    before = apply(apply(born(), e.Claimed(lease()), NOW + 1), e.Started(FIRST), NOW + 2)
    after = apply(before, e.Failed(FIRST, CRASH), NOW + 3)
    assert finished_attempt(before, after) == Attempt(
        job_id=before.job_id,
        number=1,
        worker_id=WORKER,
        lease_time=NOW + 1,
        start_time=NOW + 2,
        end_time=NOW + 3,
        outcome=Out.FAILED,
        failure=CRASH,
    )


def test_only_a_failure_or_a_timeout_of_the_attempt_itself_is_told_with_it() -> None:
    failed_once = apply(running(), e.Failed(FIRST, CRASH), NOW)
    _, cancelled = history(e.Due(), *run("2"), e.Cancel(), e.Released("2"), job=failed_once)
    attempt = last_attempt(cancelled)
    assert attempt is not None
    assert (attempt.number, attempt.outcome, attempt.failure) == (2, Out.CANCELLED, None)


@pytest.mark.parametrize("definition", [ONE_TRY])
def test_the_last_loss_is_a_loss(definition: Definition) -> None:
    attempt = last_attempt(apply(running(definition), e.WorkerLost(), NOW))
    assert attempt is not None
    assert attempt.failure is not None
    assert (attempt.outcome, attempt.failure.cause) == (Out.LOST, FailureCause.WORKER_LOST)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_change_that_ends_no_attempt_leaves_no_trace(situation: str) -> None:
    job = SITUATIONS[situation]()
    assert finished_attempt(job, job) is None
