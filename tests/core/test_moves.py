"""What each move leaves behind: what is counted, what is kept, what is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.lives import (
    CRASH,
    DEFINITION,
    FIRST,
    HOPELESS,
    JOB_ID,
    LATER,
    MINUTE,
    NOW,
    ONE_TRY,
    SECOND_LEASE,
    SITUATIONS,
    WORKER,
    born,
    lease,
    leased,
    live,
    running,
)
from towpath_server.core import events as e
from towpath_server.core.job import SECOND, FailureCause, Job, JobState, Priority, Progress, RetryPolicy
from towpath_server.core.lifecycle import FORCE_MARGIN, apply


def counts(job: Job) -> tuple[int, int, int]:
    """Number of the delivery, attempts spent, deliveries lost."""
    return job.attempt, job.attempt_count, job.lost_count


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (e.Succeeded(FIRST, b"42"), (1, 1, 0)),
        (e.Failed(FIRST, CRASH), (1, 1, 0)),
        (e.Failed(FIRST, HOPELESS), (1, 1, 0)),
        (e.TimedOut(e.Timeout.EXECUTION), (1, 1, 0)),
        (e.TimedOut(e.Timeout.STALL), (1, 1, 0)),
        (e.TimedOut(e.Timeout.TOTAL), (1, 1, 0)),
        (e.WorkerLost(), (1, 0, 1)),
        (e.Released(FIRST, "no such folder", unable=True), (1, 0, 1)),
        (e.Released(FIRST), (1, 0, 0)),
        (e.Pause(), (1, 0, 0)),
        (e.Cancel(force=True), (1, 0, 0)),
    ],
)
def test_what_an_attempt_costs(event: e.Event, expected: tuple[int, int, int]) -> None:
    assert counts(live(running(), event)) == expected


def test_a_lost_offer_costs_nothing_however_often() -> None:
    job = born(ONE_TRY)
    for token in ("a", "b", "c", "d"):
        job = live(job, e.Claimed(lease(token)), e.OfferLost())
    assert counts(job) == (0, 0, 0)
    assert (job.worker_id, job.lease_time, job.last_token) == (None, None, "")
    assert counts(live(job, e.Claimed(lease("e")), e.WorkerLost())) == (0, 0, 0)
    assert counts(live(job, e.Claimed(lease("f")), e.Confirmed("f"), e.WorkerLost())) == (1, 0, 1)


def test_attempts_and_losses_have_budgets_of_their_own() -> None:
    job = running()
    for token in ("2", "3"):
        job = live(job, e.Failed(job.last_token, CRASH), e.Due(), e.Claimed(lease(token)), e.Started(token))
    job = live(job, e.WorkerLost(), e.Claimed(lease("4")), e.Started("4"))
    assert (job.state, counts(job)) == (JobState.RUNNING, (4, 2, 1))
    assert live(job, e.WorkerLost()).state is JobState.FAILED
    failed = live(job, e.Failed("4", CRASH))
    assert (failed.state, counts(failed)) == (JobState.FAILED, (4, 3, 1))


@pytest.mark.parametrize("max_lost", [0, 1, 3])
def test_a_job_is_redelivered_max_lost_times(max_lost: int) -> None:
    job = born(replace(DEFINITION, max_lost=max_lost))
    for delivery in range(max_lost + 1):
        assert job.state is JobState.QUEUED
        token = f"delivery {delivery}"
        job = live(job, e.Claimed(lease(token)), e.Started(token), e.WorkerLost())
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.cause is FailureCause.WORKER_LOST
    assert not job.failure.retryable
    assert job.lost_count == max_lost + 1
    assert f"max_lost is {max_lost}" in job.state_reason


@pytest.mark.parametrize(
    "ways_back",
    [
        (e.WorkerLost(),),
        (e.Released(FIRST),),
        (e.Released(FIRST, unable=True),),
        (e.Failed(FIRST, CRASH), e.Due()),
        (e.TimedOut(e.Timeout.STALL), e.Due()),
        (e.Pause(), e.Resume()),
    ],
)
def test_who_comes_back_keeps_the_place_and_loses_what_the_attempt_showed(ways_back: tuple[e.Event, ...]) -> None:
    job = live(running(), e.Progressed(FIRST, Progress(percent=50)))
    back = live(job, *ways_back, at=NOW + MINUTE)
    assert (back.state, back.position, back.queue_time) == (JobState.QUEUED, JOB_ID, NOW + MINUTE)
    assert (back.progress, back.start_time, back.stall_time, back.end_time, back.lease) == (None,) * 5
    assert back.worker_id == WORKER


def test_a_failure_stays_visible_until_the_result_is_here() -> None:
    job = live(running(), e.Failed(FIRST, CRASH))
    assert (job.failure, job.state_reason) == (CRASH, "attempt 1 of 3 failed")
    assert (job.start_time, job.progress) == (None, None)
    job = live(job, e.Due(), e.Claimed(lease(SECOND_LEASE)), e.Started(SECOND_LEASE))
    assert job.failure == CRASH
    assert live(job, e.Succeeded(SECOND_LEASE, b"42")).failure is None


def test_a_timeout_says_which_and_how_long() -> None:
    job = live(running(ONE_TRY), e.TimedOut(e.Timeout.STALL))
    assert job.failure is not None
    assert (job.failure.cause, job.failure.type) == (FailureCause.TIMEOUT, "stall_timeout")
    assert job.state_reason == job.failure.message == "stall_timeout of 60 s is over"


def test_a_cancelled_job_remembers_why_and_when_it_is_killed() -> None:
    job = live(running(), e.Cancel("no need"), at=NOW + 3)
    assert (job.state_reason, job.kill_time) == ("no need", NOW + 3 + 30 * SECOND + FORCE_MARGIN)
    assert job.lease is not None
    for end in (e.Released(FIRST), e.Failed(FIRST, CRASH), e.WorkerLost(), e.Forced(), e.Cancel(force=True)):
        ended = live(job, end, at=NOW + 9)
        assert (ended.state, ended.state_reason, ended.end_time) == (JobState.CANCELLED, "no need", NOW + 9)
        assert (ended.lease, ended.kill_time, ended.failure) == (None, None, None)
    assert live(job, e.Cancel("at once", force=True)).state_reason == "at once"


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_cancel_without_a_reason_says_so(situation: str) -> None:
    job = SITUATIONS[situation]()
    cancelled = live(job, e.Cancel())
    if not job.state.is_final and job.state is not JobState.CANCELLING:
        assert cancelled.state_reason == "cancelled"


def test_a_cancelled_offer_that_starts_is_still_being_cancelled() -> None:
    job = live(leased(), e.Cancel(), e.Started(FIRST), at=NOW + 1)
    assert (job.state, job.start_time) == (JobState.CANCELLING, NOW + 1)
    assert live(job, e.Succeeded(FIRST, b"42")).state is JobState.SUCCEEDED


def test_started_twice_is_started_once() -> None:
    job = live(leased(), e.Started(FIRST), at=NOW + 1)
    assert (job.start_time, job.stall_time) == (NOW + 1, NOW + 1)
    assert apply(job, e.Started(FIRST), NOW + 2) is job


def test_a_result_without_a_start_has_one_all_the_same() -> None:
    job = live(leased(), e.Succeeded(FIRST, b""), at=NOW + 1)
    assert (job.state, job.start_time, job.result) == (JobState.SUCCEEDED, NOW + 1, b"")


def test_a_sign_of_life_keeps_the_last_progress() -> None:
    job = live(running(), e.Progressed(FIRST, Progress(percent=50)))
    assert live(job, e.Progressed(FIRST, None)).progress == Progress(percent=50)


def test_a_pause_keeps_the_planned_start() -> None:
    job = live(born(LATER), e.Pause(), at=NOW + 1)
    early = live(job, e.Resume(), at=NOW + 2)
    assert (early.state, early.queue_time) == (JobState.SCHEDULED, NOW + 10 * MINUTE)
    late = live(job, e.Resume(), at=NOW + 10 * MINUTE)
    assert (late.state, late.queue_time) == (JobState.QUEUED, NOW + 10 * MINUTE)


@pytest.mark.parametrize("situation", ["succeeded", "failed", "cancelled", "timed out"])
def test_a_retry_by_hand_begins_anew_at_the_end_of_the_lane(situation: str) -> None:
    before = SITUATIONS[situation]()
    job = live(before, e.Retry(position=JOB_ID + 99), at=NOW + MINUTE)
    assert (job.position, job.attempt_count, job.lost_count) == (JOB_ID + 99, 0, 0)
    assert (job.result, job.failure, job.progress, job.end_time, job.start_time, job.lease_time) == (None,) * 6
    assert (job.attempt, job.queue_time, job.last_token) == (before.attempt, NOW + MINUTE, "")
    assert live(job, e.Claimed(lease("next"))).attempt == before.attempt + 1


def test_a_retry_by_hand_after_too_many_losses_has_a_new_budget_of_them() -> None:
    job = live(running(ONE_TRY), e.WorkerLost(), e.Retry(JOB_ID + 1))
    assert (job.state, job.lost_count) == (JobState.QUEUED, 0)


def test_timeouts_are_tried_again_only_where_the_policy_says_so() -> None:
    policy = RetryPolicy(max_attempts=3)
    job = live(running(replace(DEFINITION, retry=policy)), e.TimedOut(e.Timeout.EXECUTION))
    assert (job.state, job.attempt_count) == (JobState.TIMED_OUT, 1)


def test_a_change_touches_what_was_asked_and_nothing_else() -> None:
    job = running()
    changed = live(job, e.Changed(ONE_TRY, Priority.CRITICAL))
    assert changed == replace(job, definition=ONE_TRY, priority=Priority.CRITICAL)
