"""Mistakes in the rules of a job: fencing, final states, counting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from support.seeding.table import bug
from towpath_server.core import events, lifecycle, retry
from towpath_server.core.events import OfferLost, Resume
from towpath_server.core.evolve import evolve
from towpath_server.core.job import Job, JobState
from towpath_server.scheduler.changes import Changes


@bug("any token is good enough for a report", first_seed=7)
def accept_a_stale_token() -> Iterator[None]:
    check = lifecycle._check_lease

    def careless(job: Job, token: str, event: Any) -> None:
        if not token:
            check(job, token, event)

    with patch.object(lifecycle, "_check_lease", careless):
        yield


@bug("a report without a token is good enough")
def accept_an_empty_token() -> Iterator[None]:
    check = lifecycle._check_lease

    def careless(job: Job, token: str, event: Any) -> None:
        if token:
            check(job, token, event)

    with patch.object(lifecycle, "_check_lease", careless):
        yield


@bug("resume queues a job that is final")
def revive_a_final_job() -> Iterator[None]:
    final = {
        state: {**lifecycle.TRANSITIONS[state], Resume: (JobState.QUEUED,)} for state in JobState if state.is_final
    }
    resume = lifecycle._MOVES[Resume]

    def revived(job: Job, event: Resume, now: int) -> Job:
        return lifecycle._requeued(job, now, "resumed") if job.state.is_final else resume(job, event, now)

    with (
        patch.object(lifecycle, "TRANSITIONS", {**lifecycle.TRANSITIONS, **final}),
        patch.dict(_moves(), {Resume: revived}),
    ):
        yield


@bug("a cancel of a job that was offered and not confirmed is forgotten", first_seed=29)
def cancel_lost_in_a_race() -> Iterator[None]:
    cancel = lifecycle._cancel

    def forgetful(job: Job, event: Any, now: int) -> Job:
        return job if job.lease is not None and not job.lease.confirmed else cancel(job, event, now)

    with patch.dict(_moves(), {events.Cancel: forgetful}):
        yield


@bug("what fails while it is being cancelled is tried again", first_seed=6)
def cancelled_job_is_retried() -> Iterator[None]:
    def failed(job: Job, event: Any, now: int) -> Job:
        if job.state is JobState.FAILED:
            return job
        counted = evolve(job, attempt_count=job.attempt_count + 1, failure=event.failure)
        if retry.may_retry(counted, event.failure):
            return lifecycle._backed_off(counted, event.random, now)
        return lifecycle._over(counted, JobState.FAILED, now, "", last_token=lifecycle._token(job))

    cancelling = {**lifecycle.TRANSITIONS[JobState.CANCELLING], events.Failed: (JobState.SCHEDULED, JobState.FAILED)}
    table = {**lifecycle.TRANSITIONS, JobState.CANCELLING: cancelling}
    with patch.object(lifecycle, "TRANSITIONS", table), patch.dict(_moves(), {events.Failed: failed}):
        yield


@bug("an offer that nobody took counts as a lost delivery")
def count_a_lost_offer() -> Iterator[None]:
    def lost(job: Job, event: OfferLost, now: int) -> Job:
        if job.lease is not None and job.lease.confirmed:
            return job
        return lifecycle._requeued(evolve(job, lost_count=job.lost_count + 1), now, "")

    with patch.dict(_moves(), {OfferLost: lost}), patch.object(lifecycle, "_offer_lost", lost):
        yield


@bug("a failure is counted twice")
def count_a_failure_twice() -> Iterator[None]:
    failed = lifecycle._failed

    def twice(job: Job, event: Any, now: int) -> Job:
        return failed(evolve(job, attempt_count=job.attempt_count + 1), event, now)

    with patch.dict(_moves(), {events.Failed: twice}):
        yield


@bug("max_attempts is off by one")
def max_attempts_off_by_one() -> Iterator[None]:
    may_retry = retry.may_retry

    def generous(job: Job, failure: Any) -> bool:
        return may_retry(evolve(job, attempt_count=job.attempt_count - 1), failure)

    with patch.object(retry, "may_retry", generous):
        yield


@bug("max_lost is off by one")
def max_lost_off_by_one() -> Iterator[None]:
    with patch.object(retry, "may_redeliver", lambda job: job.lost_count < job.definition.max_lost):
        yield


@bug("max_lost is never looked at", first_seed=8)
def max_lost_ignored() -> Iterator[None]:
    with patch.object(retry, "may_redeliver", lambda job: True):
        yield


@bug("what failed is tried again at once")
def backoff_ignored() -> Iterator[None]:
    with patch.object(retry, "backoff", lambda policy, attempts, random: 0):
        yield


@bug("the history keeps no attempt that was lost")
def lost_attempts_are_not_kept() -> Iterator[None]:
    put = Changes.put

    def forgetful(self: Changes, before: Job, after: Job) -> None:
        put(self, before, after)
        if after.lost_count > before.lost_count:
            self._past.clear()

    with patch.object(Changes, "put", forgetful):
        yield


def _moves() -> Any:
    return lifecycle._MOVES
