"""The lease token alone decides who may speak for an attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from support.lives import CRASH, FIRST, HOPELESS, MINUTE, NOW, ONE_TRY, SECOND_LEASE, SITUATIONS, lease, live, running
from towpath_server.core import events as e
from towpath_server.core.errors import LeaseSuperseded, TowpathError
from towpath_server.core.job import Job, JobState
from towpath_server.core.lifecycle import apply

WORDS: Mapping[str, Callable[[str], e.Event]] = {
    "confirmed": e.Confirmed,
    "adopted": lambda token: e.Adopted(token, "session-2"),
    "started": e.Started,
    "progressed": lambda token: e.Progressed(token, None),
    "succeeded": lambda token: e.Succeeded(token, b"42"),
    "failed": lambda token: e.Failed(token, CRASH),
    "released": e.Released,
    "unable": lambda token: e.Released(token, "no such folder", unable=True),
}

# Jobs whose present lease, or whose latest one, is the second.
SECOND_TIME: Mapping[str, Callable[[], Job]] = {
    "leased again": lambda: live(SITUATIONS["lost"](), e.Claimed(lease(SECOND_LEASE))),
    "runs again": lambda: live(SITUATIONS["lost"](), e.Claimed(lease(SECOND_LEASE)), e.Started(SECOND_LEASE)),
    "offered again, in vain": lambda: live(SITUATIONS["lost"](), e.Claimed(lease(SECOND_LEASE)), e.OfferLost()),
    "done at last": lambda: live(SITUATIONS["lost"](), e.Claimed(lease(SECOND_LEASE)), e.Succeeded(SECOND_LEASE, b"1")),
    "retried by hand": lambda: live(SITUATIONS["succeeded"](), e.Retry(77)),
    "runs after a retry by hand": lambda: live(
        SITUATIONS["succeeded"](), e.Retry(77), e.Claimed(lease(SECOND_LEASE)), e.Started(SECOND_LEASE)
    ),
}


def refused(job: Job, event: e.Event) -> bool:
    """Whether the word counts for nothing."""
    try:
        apply(job, event, NOW)
    except LeaseSuperseded:
        return True
    except TowpathError:
        return False
    return False


WRONG = ("", "never-given", FIRST[:-1], FIRST.upper(), FIRST + "\0")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_wrong_token_is_worth_nothing_anywhere(situation: str, word: str) -> None:
    job = SITUATIONS[situation]()
    for token in WRONG:
        with pytest.raises(LeaseSuperseded):
            apply(job, WORDS[word](token), NOW)
    assert job == SITUATIONS[situation]()


@pytest.mark.parametrize("situation", SECOND_TIME)
def test_an_older_token_is_worth_nothing_once_the_job_went_on(situation: str) -> None:
    for word in WORDS.values():
        for token in ("", FIRST):
            with pytest.raises(LeaseSuperseded):
                apply(SECOND_TIME[situation](), word(token), NOW)


def test_an_offer_that_was_never_taken_ends_with_its_token() -> None:
    job = SECOND_TIME["offered again, in vain"]()
    assert all(refused(job, word(SECOND_LEASE)) for word in WORDS.values())


# Where no lease is left, these are the only words with the latest token that still count.
STILL_COUNTS = {
    "lost": {"succeeded", "adopted"},
    "succeeded": {"succeeded"},
    "failed": {"failed"},
    "cancelled": {"released", "unable"},
}


@pytest.mark.parametrize("situation", [name for name, job in SITUATIONS.items() if job().lease is None])
def test_what_the_latest_token_is_worth_once_the_lease_is_over(situation: str) -> None:
    counts = {name for name, word in WORDS.items() if not refused(SITUATIONS[situation](), word(FIRST))}
    assert counts == STILL_COUNTS.get(situation, set())


@pytest.mark.parametrize("situation", [name for name, job in SITUATIONS.items() if job().lease is not None])
def test_the_holder_of_the_lease_is_always_heard(situation: str) -> None:
    assert not any(refused(SITUATIONS[situation](), word(FIRST)) for word in WORDS.values())


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (e.Succeeded(FIRST, b"42"), e.Succeeded(FIRST, b"42")),
        (e.Succeeded(FIRST, b"42"), e.Succeeded(FIRST, b"another")),
        (e.Failed(FIRST, HOPELESS), e.Failed(FIRST, HOPELESS)),
    ],
)
def test_an_outcome_told_again_changes_nothing(first: e.Event, again: e.Event) -> None:
    job = live(running(), first)
    assert apply(job, again, NOW + 1) is job


@pytest.mark.parametrize(
    ("end", "late"),
    [
        (e.Succeeded(FIRST, b"42"), e.Failed(FIRST, HOPELESS)),
        (e.Failed(FIRST, HOPELESS), e.Succeeded(FIRST, b"42")),
        (e.Cancel(force=True), e.Succeeded(FIRST, b"42")),
        (e.TimedOut(e.Timeout.TOTAL), e.Succeeded(FIRST, b"42")),
        (e.WorkerLost(), e.Succeeded(FIRST, b"42")),
    ],
)
def test_the_first_outcome_stands(end: e.Event, late: e.Event) -> None:
    job = live(running(ONE_TRY), end)
    assert job.state.is_final
    assert refused(job, late)


def test_a_late_result_counts_while_nobody_else_has_the_job() -> None:
    job = live(SITUATIONS["lost"](), e.Succeeded(FIRST, b"late"))
    assert (job.state, job.result, job.failure) == (JobState.SUCCEEDED, b"late", None)
    assert (job.attempt_count, job.lost_count) == (1, 0)
    assert apply(job, e.Succeeded(FIRST, b"late"), NOW + 1) is job


def test_a_worker_that_comes_back_goes_on_with_the_job_that_nobody_else_was_given() -> None:
    lost = SITUATIONS["lost"]()
    job = apply(lost, e.Adopted(FIRST, "session-2"), NOW + 10 * MINUTE)
    assert (job.state, job.attempt, job.attempt_count, job.lost_count) == (JobState.RUNNING, lost.attempt, 0, 0)
    assert job.lease == replace(lease(session="session-2"), confirmed=True)
    # Its clocks begin anew: while its machine slept nothing could run.
    assert (job.lease_time, job.start_time, job.due_time) == (NOW + 10 * MINUTE, NOW + 10 * MINUTE, NOW + 11 * MINUTE)


def test_a_session_hands_its_lease_to_the_next_one() -> None:
    job = live(SITUATIONS["offered"](), e.Adopted(FIRST, "session-2"))
    assert job.lease is not None
    assert (job.lease.session_id, job.lease.confirmed, job.lease.token) == ("session-2", True, FIRST)


def test_a_refusal_does_not_tell_the_token() -> None:
    with pytest.raises(LeaseSuperseded) as refusal:
        apply(running(), e.Started("secret-guess"), NOW)
    assert "secret-guess" not in str(refusal.value)
    assert FIRST not in str(refusal.value) + str(refusal.value.facts)
