"""What every store does with jobs: insert, load, save, delete."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.store_samples import NOW, WORKER, after, at, definition, fill, job
from towpath_server.core.errors import InvalidArgument
from towpath_server.core.job import (
    Attempt,
    AttemptOutcome,
    Failure,
    FailureCause,
    Job,
    JobState,
    Priority,
    Progress,
    Requirements,
    RetryPolicy,
    Timeouts,
)
from towpath_server.store.base import Matching, Store

ALL = Matching(tenant="acme")


def full(job_id: int = 1) -> Job:
    """A job with everything set that can be."""
    return replace(
        job(job_id, JobState.RUNNING),
        definition=definition(
            workspace="w",
            labels={"a": "1", 'quote"': "ü\n"},
            annotations=b"\x00\xff",
            timeouts=Timeouts(1, 2, 3, 4, 5, 6),
            retry=RetryPolicy(3, 1, 1.5, 9, 0.5, ("ValueError", "OSError"), True),
            max_lost=9,
            requirements=Requirements(1, 2, 3, 4, (("zone", "a"), ("b", "c")), 5, 6),
            request_id="request",
            request_hash=b"\x01\x02",
            schedule_time=NOW + 9,
            concurrency_key="key",
        ),
        priority=Priority.CRITICAL,
        position=-(1 << 62),
        state_reason="because",
        due_time=NOW + 1,
        kill_time=NOW + 2,
        stall_time=NOW + 3,
        attempt_count=2,
        lost_count=1,
        progress=Progress(12.5, "fit", "epoch 5/10", {"logloss": 0.25, "inf": float("inf")}, 7, NOW),
        failure=Failure(FailureCause.PROCESS_DIED, "Killed", "signal 9", "trace\nback", retryable=False),
    )


def only(store: Store, job_id: int = 1) -> Job:
    return store.load([job_id])[job_id]


@pytest.mark.parametrize("state", JobState)
def test_a_job_comes_back_as_it_was(store: Store, state: JobState) -> None:
    fill(store, [job(1, state)])
    assert only(store) == job(1, state)


def test_every_field_comes_back(store: Store) -> None:
    fill(store, [full()])
    assert only(store) == full()


def test_a_result_may_be_empty(store: Store) -> None:
    fill(store, [job(1, JobState.SUCCEEDED, result=b""), job(2, JobState.SUCCEEDED, result=None)])
    assert [found.result for found in store.load([1, 2]).values()] == [b"", None]


@pytest.mark.parametrize("size", [8191, 8192, 8193, 3 << 20])
def test_large_blobs_come_back(store: Store, size: int) -> None:
    blob = bytes(range(256)) * (size // 256 + 1)
    large = job(1, JobState.SUCCEEDED, spec=blob[:size], annotations=blob[1:size], result=blob[2:size])
    result_only = job(2, JobState.SUCCEEDED, result=blob[:size])
    fill(store, [large, result_only, job(3)])
    assert store.load([1, 2, 3]) == {1: large, 2: result_only, 3: job(3)}


def test_odd_text_comes_back_or_is_refused_whole(store: Store) -> None:
    fill(store, [job(1)])
    odd = job(
        2, state_reason="nul \x00 end", labels={"\x00": "\x00"}, failure=Failure(FailureCause.HANDLER, "\ud800", "x")
    )
    with store.transaction():
        store.insert([odd])
    assert only(store, 2) == odd
    try:
        with store.transaction():
            store.insert([job(3), job(4, state_reason="\ud800")])
    except InvalidArgument:
        assert set(store.load([1, 2, 3, 4])) == {1, 2}
    with store.transaction():
        store.save([after(only(store))])


def test_empty_batches_do_nothing(store: Store) -> None:
    with store.transaction():
        store.insert([])
        store.save([])
        store.delete([])
        store.add_lanes([])
        store.put([])
        store.remove([])
        store.append_logs([])
    assert store.load([]) == {}
    assert store.find(ALL, 10) == []
    assert store.find(ALL, 0) == []
    assert store.count(ALL) == []
    assert store.next_due() is None
    assert store.lanes() == {}


def test_missing_jobs_are_left_out(store: Store) -> None:
    fill(store, [job(1), job(3)])
    assert set(store.load([1, 2, 3, 3, 4])) == {1, 3}


def test_save_replaces_everything(store: Store) -> None:
    fill(store, [job(1), job(2)])
    changed = replace(full(), lane_id=1, revision=2)
    with store.transaction():
        store.save([changed])
    assert store.load([1, 2]) == {1: changed, 2: job(2)}


def test_save_inside_the_transaction_that_loaded_keeps_or_changes_the_definition(store: Store) -> None:
    fill(store, [job(1, labels={"a": "1"}), job(2, labels={"a": "1"})])
    with store.transaction():
        loaded = store.load([1, 2])
        kept = after(at(loaded[1], JobState.LEASED))
        relabelled = after(loaded[2], definition=replace(loaded[2].definition, labels={"b": "2"}))
        store.save([kept, relabelled])
        store.save([again := after(relabelled, priority=Priority.HIGH)])
        assert store.load([1, 2]) == {1: kept, 2: again}
    assert store.load([1, 2]) == {1: kept, 2: again}


def test_a_definition_read_long_ago_is_not_taken_for_the_stored_one(store: Store) -> None:
    fill(store, [job(1)])
    old = only(store)
    new = after(old, definition=replace(old.definition, labels={"b": "2"}))
    with store.transaction():
        store.save([new])
    with store.transaction():
        store.load([1])
        store.save([last := after(new, definition=old.definition)])
    assert only(store) == last


def test_attempts_are_kept_in_order_and_replaced_by_number(store: Store) -> None:
    fill(store, [job(1), job(2)])
    failure = Failure(FailureCause.HANDLER, "ValueError", "no", "trace")
    first = Attempt(1, 1, WORKER, NOW, NOW + 1, NOW + 2, AttemptOutcome.FAILED, failure)
    second = Attempt(1, 2, WORKER, NOW, None, None, None)
    with store.transaction():
        store.save([], [second, first, Attempt(2, 1, WORKER, NOW, None, NOW, AttemptOutcome.LOST)])
    assert store.attempts(1) == [first, second]
    ended = replace(second, end_time=NOW + 3, outcome=AttemptOutcome.RELEASED)
    with store.transaction():
        store.save([after(job(1))], [ended])
    assert store.attempts(1) == [first, ended]
    assert store.attempts(3) == []


def test_delete_removes_attempts_too(store: Store) -> None:
    fill(store, [job(1), job(2)])
    with store.transaction():
        store.save([], [Attempt(one, 1, WORKER, NOW, None, NOW, AttemptOutcome.LOST) for one in (1, 2)])
    with store.transaction():
        store.delete([1, 9])
    assert store.load([1, 2]) == {2: job(2)}
    assert store.attempts(1) == []
    assert len(store.attempts(2)) == 1


def test_a_batch_of_2500(store: Store) -> None:
    jobs = [job(number, request_id=f"r{number}") for number in range(1, 2501)]
    fill(store, jobs)
    ids = [one.job_id for one in jobs]
    with store.transaction():
        found = store.load(ids)
        assert found == {one.job_id: one for one in jobs}
        leased = [after(at(one, JobState.LEASED)) for one in found.values()]
        past = [Attempt(one.job_id, 1, WORKER, NOW, None, NOW, AttemptOutcome.LOST) for one in leased]
        store.save(leased, past)
    assert store.load(ids) == {one.job_id: one for one in leased}
    assert len(store.attempts(2500)) == 1
    with store.transaction():
        store.delete(ids[1:])
    assert store.find(ALL, 5000) == leased[:1]
