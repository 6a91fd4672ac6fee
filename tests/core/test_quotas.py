"""How much a tenant and its users may have, as plain rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from towpath_server.core.job import SECOND, UNBORN, JobState, Lease
from towpath_server.core.quotas import (
    LATER,
    MINUTE,
    NOTHING,
    SOON,
    Bucket,
    Rate,
    Use,
    full_for_more,
    quota_of,
    refilled,
    room_to_run,
    use_of,
    wait_for_call,
)
from towpath_server.core.records import Quota

LEASE = Lease("token", 1, "session")
DEFAULT, ACME, ADA = Quota(max_queued=1), Quota(tenant="acme", max_queued=2), Quota(tenant="acme", user="ada")
QUOTAS = {(one.tenant, one.user): one for one in (DEFAULT, ACME, ADA)}


@pytest.mark.parametrize("state", JobState)
def test_a_job_waits_runs_or_is_over(state: JobState) -> None:
    held = state in (JobState.LEASED, JobState.RUNNING, JobState.CANCELLING)
    job = replace(UNBORN, state=state, lease=LEASE if held else None)
    assert use_of(job) == (NOTHING if state.is_final else Use(running=1) if held else Use(queued=1))


def test_what_a_job_has_brought_is_kept_until_it_is_deleted() -> None:
    assert use_of(replace(UNBORN, state=JobState.SUCCEEDED, result=b"1234")) == Use(result_bytes=4)
    assert use_of(None) == NOTHING


def test_a_tenant_without_a_quota_has_the_default_and_a_user_without_one_has_none() -> None:
    assert quota_of(QUOTAS, ("acme", "")) is ACME
    assert quota_of(QUOTAS, ("other", "")) is DEFAULT
    assert quota_of(QUOTAS, ("acme", "ada")) is ADA
    assert quota_of(QUOTAS, ("acme", "bob")) is None
    assert quota_of({}, ("acme", "")) is None


def test_so_many_jobs_wait_and_none_more() -> None:
    quota = Quota(max_queued=10)
    assert full_for_more(quota, Use(queued=7, running=99), 3) is None
    full = full_for_more(quota, Use(queued=7), 4)
    assert full is not None
    assert (full.limit, full.in_use, full.retry_after) == (10, 7, SOON)
    assert full_for_more(Quota(max_queued=0), NOTHING, 1) is not None
    assert full_for_more(Quota(), Use(10**9, 10**9, 10**15, 10**15), 10**6) is None


@pytest.mark.parametrize(
    ("quota", "below", "at"),
    [
        (Quota(max_result_bytes=100), Use(result_bytes=99), Use(result_bytes=100)),
        (Quota(max_log_bytes=100), Use(log_bytes=99), Use(log_bytes=100)),
    ],
)
def test_where_too_much_is_kept_no_new_job_is_taken(quota: Quota, below: Use, at: Use) -> None:
    assert full_for_more(quota, below, 1) is None
    full = full_for_more(quota, at, 1)
    assert full is not None
    assert full.retry_after == LATER


def test_room_to_run() -> None:
    assert room_to_run(None, Use(running=5)) is None
    assert room_to_run(Quota(), Use(running=5)) is None
    assert room_to_run(Quota(max_running=8), Use(running=5)) == 3
    # A quota that was lowered under what runs.
    assert room_to_run(Quota(max_running=3), Use(running=5)) == 0


def calls_from(bucket: Bucket | None, rate: int, now: int) -> tuple[Bucket, int]:
    """As many calls as go through at once, and the bucket after them."""
    bucket, calls = refilled(bucket, rate, now), 0
    while not wait_for_call(bucket, rate):
        bucket, calls = bucket._replace(calls=bucket.calls - 1), calls + 1
    return bucket, calls


@pytest.mark.parametrize("rate", [1, 3, 7, 60, 600, 100_000])
def test_over_many_minutes_as_many_calls_go_through_as_the_rate_says(rate: int) -> None:
    bucket, now = None, 0
    bucket, burst = calls_from(bucket, rate, now)
    assert burst == max(rate // 10, 1)
    made = 0
    while now < 10 * MINUTE:
        wait = wait_for_call(bucket, rate)
        assert 0 < wait <= MINUTE
        # A moment sooner there is no room: what was said was exact.
        assert wait_for_call(refilled(bucket, rate, now + wait - 2), rate) > 0 or rate > SECOND
        now += wait
        bucket, calls = calls_from(bucket, rate, now)
        assert calls >= 1
        made += calls
    assert 10 * rate - 1 <= made <= 10 * rate + 1


def test_a_rate_of_nothing_lets_nobody_through() -> None:
    assert wait_for_call(refilled(None, 0, 0), 0) == MINUTE
    assert wait_for_call(refilled(Bucket(0.0, 0), 0, 10**12), 0) == MINUTE


def test_a_long_pause_does_not_add_up_and_a_clock_behind_takes_nothing() -> None:
    assert refilled(Bucket(0.0, 0), 600, 10**12).calls == 60.0
    assert refilled(Bucket(5.0, 100), 600, 50).calls == 5.0


def test_each_has_a_rate_of_its_own_and_few_are_remembered() -> None:
    rate: Rate[str] = Rate(per_minute=6, burst=3, most_keys=2)
    assert [rate.take("a", 0) for _ in range(4)] == [0, 0, 0, 10 * SECOND]
    assert rate.take("b", 0) == 0
    # What is refused takes nothing, and there is no more than the burst after a pause.
    assert [rate.take("a", 10 * SECOND - 1), rate.take("a", 10 * SECOND), rate.take("a", 10 * SECOND)] == [
        *(1, 0, 10 * SECOND)
    ]
    assert [rate.take("a", 10 * MINUTE) for _ in range(4)] == [0, 0, 0, 10 * SECOND]
    for number in range(100):
        assert rate.take(f"c{number}", 10 * MINUTE) == 0
        # Who calls all the time is not forgotten.
        assert rate.take("a", 10 * MINUTE) == 10 * SECOND
    assert len(rate) == 2
