"""Backoffs and budgets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.lives import DEFINITION, born
from towpath_server.core.job import SECOND, Failure, FailureCause, RetryPolicy
from towpath_server.core.retry import backoff, may_redeliver, may_retry

CERTAIN = RetryPolicy(jitter=0.0)


def test_waits_double_up_to_the_longest() -> None:
    waits = [backoff(CERTAIN, attempts, 0.5) / SECOND for attempts in range(1, 12)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@pytest.mark.parametrize(
    ("jitter", "random", "wait"),
    [(0.0, 0.0, 1000), (0.0, 0.99, 1000), (1.0, 0.0, 0), (1.0, 0.5, 500), (0.5, 0.0, 500), (0.5, 0.5, 750)],
)
def test_jitter(jitter: float, random: float, wait: int) -> None:
    assert backoff(RetryPolicy(initial_backoff=1000, jitter=jitter), 1, random) == wait


@pytest.mark.parametrize(("multiplier", "waits"), [(1.0, [8, 8, 8]), (0.5, [8, 4, 2]), (0.0, [8, 0, 0])])
def test_waits_that_do_not_grow(multiplier: float, waits: list[int]) -> None:
    policy = RetryPolicy(initial_backoff=8, multiplier=multiplier, jitter=0.0)
    assert [backoff(policy, attempts, 0.0) for attempts in (1, 2, 3)] == waits


@pytest.mark.parametrize("multiplier", [2.0, 100.0])
@pytest.mark.parametrize("attempts", [999, 100_000])
def test_a_wait_past_all_numbers_is_the_longest(multiplier: float, attempts: int) -> None:
    policy = RetryPolicy(multiplier=multiplier, jitter=0.0)
    assert backoff(policy, attempts, 0.0) == policy.max_backoff
    assert backoff(replace(policy, initial_backoff=0), attempts, 0.0) == 0


def test_no_wait_is_longer_than_the_longest_also_the_first() -> None:
    assert backoff(RetryPolicy(initial_backoff=9, max_backoff=5, jitter=0.0), 1, 0.0) == 5


DAY_LONG = st.integers(0, 86_400 * SECOND)
UNIT = st.floats(0, 1)


@given(DAY_LONG, st.floats(1, 100), DAY_LONG, UNIT, st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_every_wait_lies_between_the_part_that_is_certain_and_the_whole(
    initial: int, multiplier: float, longest: int, jitter: float, attempts: int, random: float
) -> None:
    policy = RetryPolicy(initial_backoff=initial, multiplier=multiplier, max_backoff=longest, jitter=jitter)
    whole = backoff(replace(policy, jitter=0.0), attempts, random)
    wait = backoff(policy, attempts, random)
    assert min(initial, longest) <= whole <= longest
    assert int(whole * (1 - jitter)) - 1 <= wait <= whole
    assert whole <= backoff(replace(policy, jitter=0.0), attempts + 1, random)


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (Failure(FailureCause.HANDLER, "ValueError", ""), True),
        (Failure(FailureCause.HANDLER, "ValueError", "", retryable=False), False),
        (Failure(FailureCause.HANDLER, "Hopeless", ""), False),
        (Failure(FailureCause.HANDLER, "hopeless", ""), True),
        (Failure(FailureCause.PROCESS_DIED, "SIGSEGV", ""), True),
        (Failure(FailureCause.TIMEOUT, "stall_timeout", ""), True),
        (Failure(FailureCause.TIMEOUT, "execution_timeout", ""), False),
        (Failure(FailureCause.INVALID_INPUT, "InvalidInput", "", retryable=True), False),
    ],
)
def test_which_failures_are_tried_again(failure: Failure, again: bool) -> None:
    policy = RetryPolicy(max_attempts=2, non_retryable_types=("Hopeless", "execution_timeout"))
    job = replace(born(replace(DEFINITION, retry=policy)), attempt_count=1)
    assert may_retry(job, failure) is again
    assert not may_retry(replace(job, attempt_count=2), failure)


@pytest.mark.parametrize(("max_lost", "lost_count", "again"), [(0, 1, False), (3, 3, True), (3, 4, False)])
def test_how_many_losses_are_borne(max_lost: int, lost_count: int, again: bool) -> None:
    job = replace(born(replace(DEFINITION, max_lost=max_lost)), lost_count=lost_count)
    assert may_redeliver(job) is again
