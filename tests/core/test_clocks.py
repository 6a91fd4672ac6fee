"""Each clock of a job: when it runs out, what happens then, and which of several goes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from support.lives import CRASH, DEFINITION, FIRST, LATER, MINUTE, NOW, SITUATIONS, born, leased, live, running
from towpath_server.core import events as e
from towpath_server.core.clocks import OFFER_TTL, next_due, overdue, postpone
from towpath_server.core.ids import new_id
from towpath_server.core.job import DAY, SECOND, Definition, Job, JobState, Progress, RetryPolicy, Timeouts
from towpath_server.core.lifecycle import FORCE_MARGIN, apply

T = e.Timeout
UNLIMITED = Timeouts(execution=100 * DAY)


def limited(timeouts: Timeouts, base: Definition = DEFINITION) -> Definition:
    """The definition with these timeouts alone."""
    return replace(base, timeouts=timeouts)


CLOCKS: list[tuple[str, Callable[[], Job], int, e.Event]] = [
    ("delayed start", lambda: born(limited(UNLIMITED, LATER)), 10 * MINUTE, e.Due()),
    ("end of a backoff", lambda: live(running(limited(UNLIMITED)), e.Failed(FIRST, CRASH)), SECOND, e.Due()),
    ("queue", lambda: born(limited(Timeouts(queue=7))), 7, e.TimedOut(T.QUEUE, 0.25)),
    ("queue, again", lambda: live(running(limited(Timeouts(queue=7))), e.WorkerLost()), 7, e.TimedOut(T.QUEUE, 0.25)),
    ("offer", lambda: leased(limited(UNLIMITED)), OFFER_TTL, e.OfferLost()),
    ("execution", lambda: running(limited(Timeouts(execution=9))), 9, e.TimedOut(T.EXECUTION, 0.25)),
    ("stall", lambda: running(limited(Timeouts(stall=8))), 8, e.TimedOut(T.STALL, 0.25)),
    (
        "grace",
        lambda: live(running(limited(Timeouts(cancel_grace=6))), e.Cancel()),
        6 + FORCE_MARGIN,
        e.Forced(),
    ),
    *(
        (f"total, {name}", make, 5 * SECOND, e.TimedOut(T.TOTAL, 0.25))
        for name, make in {
            "scheduled": lambda: born(limited(Timeouts(total=5 * SECOND), LATER)),
            "queued": lambda: born(limited(Timeouts(total=5 * SECOND))),
            "leased": lambda: leased(limited(Timeouts(total=5 * SECOND))),
            "running": lambda: running(limited(Timeouts(total=5 * SECOND))),
            "paused": lambda: live(born(limited(Timeouts(total=5 * SECOND))), e.Pause()),
        }.items()
    ),
]


@pytest.mark.parametrize(("make", "after", "event"), [row[1:] for row in CLOCKS], ids=[row[0] for row in CLOCKS])
def test_a_clock(make: Callable[[], Job], after: int, event: e.Event) -> None:
    job = make()
    assert job.due_time == next_due(job) == NOW + after
    assert overdue(job, NOW + after - 1, 0.25) is None
    assert overdue(job, NOW + after, 0.25) == event
    assert apply(job, event, NOW + after) is not job


@pytest.mark.parametrize("situation", [name for name, job in SITUATIONS.items() if job().state.is_final])
def test_a_final_job_may_go_when_its_keep_is_over_and_nothing_else_happens_to_it(situation: str) -> None:
    job = SITUATIONS[situation]()
    assert job.due_time == NOW + DEFINITION.timeouts.ttl
    assert overdue(job, NOW + 1000 * DAY, 0.5) is None


@pytest.mark.parametrize("make", [born, lambda definition: live(born(definition), e.Pause())])
def test_without_limits_a_job_waits_for_ever(make: Callable[[Definition], Job]) -> None:
    assert make(limited(UNLIMITED)).due_time is None


@pytest.mark.parametrize(
    ("queue", "total", "first"), [(9, 7 * SECOND, T.QUEUE), (9 * SECOND, 7 * SECOND, T.TOTAL), (None, 1, T.TOTAL)]
)
def test_the_earliest_wins_in_the_queue(queue: int | None, total: int, first: e.Timeout) -> None:
    job = born(limited(Timeouts(queue=queue, total=total)))
    assert overdue(job, NOW + DAY, 0.0) == e.TimedOut(first, 0.0)


@pytest.mark.parametrize(
    ("execution", "stall", "total", "first"),
    [(1, 2, 3 * SECOND, T.EXECUTION), (2, 1, 3 * SECOND, T.STALL), (5 * SECOND, 4 * SECOND, 3 * SECOND, T.TOTAL)],
)
def test_the_earliest_wins_while_it_runs(execution: int, stall: int, total: int, first: e.Timeout) -> None:
    job = running(limited(Timeouts(execution=execution, stall=stall, total=total)))
    assert job.due_time == NOW + min(execution, stall, total)
    assert overdue(job, NOW + DAY, 0.0) == e.TimedOut(first, 0.0)


def test_the_start_comes_before_a_later_end_of_the_whole() -> None:
    job = born(limited(Timeouts(total=20 * MINUTE), LATER))
    assert overdue(job, NOW + DAY, 0.0) == e.Due()
    assert overdue(live(job, e.Due(), at=NOW + DAY), NOW + DAY, 0.0) == e.TimedOut(T.TOTAL, 0.0)


@pytest.mark.parametrize("progress", [None, Progress(percent=50)])
def test_any_sign_of_life_winds_the_stall_clock_and_no_other(progress: Progress | None) -> None:
    job = running(limited(Timeouts(stall=MINUTE, execution=5 * MINUTE)))
    alive = live(job, e.Progressed(FIRST, progress), at=NOW + 30 * SECOND)
    assert alive.due_time == NOW + 90 * SECOND
    assert live(alive, e.Progressed(FIRST, None), at=NOW + 280 * SECOND).due_time == NOW + 5 * MINUTE


def test_an_offer_that_is_confirmed_and_never_started_ends_all_the_same() -> None:
    job = live(leased(limited(Timeouts(execution=MINUTE))), e.Confirmed(FIRST), at=NOW + 1)
    assert job.due_time == NOW + OFFER_TTL + MINUTE
    assert overdue(job, NOW + OFFER_TTL + MINUTE, 0.0) == e.TimedOut(T.EXECUTION, 0.0)


def test_a_job_that_is_being_cancelled_has_one_clock() -> None:
    job = live(running(limited(Timeouts(execution=1, stall=1, total=1, cancel_grace=DAY))), e.Cancel())
    assert job.due_time == NOW + DAY + FORCE_MARGIN
    assert live(job, e.Cancel("again"), at=NOW + 9) is job


def test_the_whole_begins_anew_when_a_final_job_is_retried_by_hand() -> None:
    job = live(born(limited(Timeouts(total=5 * SECOND))), e.TimedOut(T.TOTAL), at=NOW + 5 * SECOND)
    later = NOW + 3 * DAY
    again = apply(job, e.Retry(new_id(later, 1234, last=job.position)), later)
    assert again.due_time == later + 5 * SECOND
    assert overdue(again, later, 0.0) is None


def test_the_whole_goes_on_through_retries_losses_and_pauses() -> None:
    job = running(limited(Timeouts(total=60 * SECOND)))
    again = live(job, e.Failed(FIRST, CRASH), e.Due(), e.Pause(), e.Resume(), at=NOW + 5 * SECOND)
    assert again.due_time == NOW + 60 * SECOND
    lost = live(job, e.WorkerLost(), at=NOW + 6 * SECOND)
    assert lost.due_time == NOW + 60 * SECOND


def test_each_entry_into_the_queue_winds_its_clock() -> None:
    job = live(leased(limited(Timeouts(queue=MINUTE))), e.OfferLost(), at=NOW + 50 * SECOND)
    assert job.due_time == NOW + 110 * SECOND
    resumed = live(live(job, e.Pause(), at=NOW + DAY), e.Resume(), at=NOW + 2 * DAY)
    assert resumed.due_time == NOW + 2 * DAY + MINUTE


def test_new_timeouts_count_from_where_the_clock_began() -> None:
    job = running(limited(Timeouts(execution=5 * MINUTE)))
    changed = live(job, e.Changed(limited(Timeouts(execution=MINUTE)), job.priority), at=NOW + 2 * MINUTE)
    assert changed.due_time == NOW + MINUTE
    assert overdue(changed, NOW + 2 * MINUTE, 0.0) == e.TimedOut(T.EXECUTION, 0.0)


def test_chance_goes_with_the_timeout_and_into_its_backoff() -> None:
    policy = RetryPolicy(max_attempts=2, initial_backoff=1000, jitter=1.0, retry_timeouts=True)
    job = running(replace(limited(Timeouts(execution=MINUTE)), retry=policy))
    event = overdue(job, NOW + MINUTE, 0.25)
    assert event is not None
    again = apply(job, event, NOW + MINUTE)
    assert (again.state, again.queue_time) == (JobState.SCHEDULED, NOW + MINUTE + 250)


BOOT = NOW + DAY


def test_after_a_restart_the_clocks_of_held_jobs_are_put_off() -> None:
    job = running(limited(Timeouts(execution=MINUTE)))
    assert postpone(job, BOOT).due_time == BOOT
    assert replace(postpone(job, BOOT), due_time=job.due_time) == job
    assert postpone(job, NOW + 1) is job
    free = live(born(limited(UNLIMITED)), e.Pause())
    assert postpone(free, BOOT) is free


@pytest.mark.parametrize(
    "word",
    [
        e.Adopted(FIRST, "session-2"),
        e.Confirmed(FIRST),
        e.Progressed(FIRST, None),
        e.Changed(DEFINITION, born().priority),
    ],
)
def test_a_clock_that_was_put_off_stays_so_while_the_worker_gets_a_word_in(word: e.Event) -> None:
    job = postpone(running(limited(Timeouts(execution=MINUTE))), BOOT)
    assert apply(job, word, BOOT - 5 * SECOND).due_time == BOOT


def test_a_clock_that_was_put_off_starts_afresh_with_the_next_state() -> None:
    job = postpone(leased(limited(Timeouts(execution=MINUTE))), BOOT)
    assert live(job, e.Started(FIRST), at=BOOT - 5 * MINUTE).due_time == BOOT - 4 * MINUTE
    assert live(job, e.Succeeded(FIRST, b""), at=NOW + 5).due_time == NOW + 5 + Timeouts().ttl


def test_a_clock_that_runs_out_after_the_restart_is_kept() -> None:
    job = postpone(running(limited(Timeouts(execution=MINUTE))), NOW + 2)
    assert live(job, e.Adopted(FIRST, "session-2"), at=NOW + 1).due_time == NOW + MINUTE
