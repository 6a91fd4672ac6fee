"""What every store says of changes in their order, and which jobs may have a dedupe key."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.store_samples import after, at, fill, job, lane
from towpath_server.core.job import Job, JobState
from towpath_server.store.base import ByDedupe, IntegrityViolation, Matching, Store
from towpath_server.store.shared import SharedStore
from towpath_server.store.sqlite import SqliteStore

S = JobState
ALIVE = [state for state in S if not state.is_final]
FINAL = [state for state in S if state.is_final]


def keyed(number: int, state: JobState = S.QUEUED, key: str = "k") -> Job:
    return job(number, state, dedupe_key=key)


def found(store: Store, *keys: str, user: str = "ann", limit: int = 100) -> list[int]:
    return [one.job_id for one in store.find(ByDedupe("acme", user, keys), limit)]


def test_dedupe_keys_find_the_living_jobs_of_their_user(store: Store) -> None:
    bob, evil = lane(2, user="bob"), lane(3, tenant="evil")
    theirs = [job(2, of=bob, dedupe_key="k"), job(3, of=evil, dedupe_key="k")]
    fill(store, [keyed(1), *theirs, job(4), keyed(5, S.FAILED), keyed(6, key="l")], [lane(), bob, evil])
    assert found(store, "k") == [1]
    assert found(store, "l", "x", "k", "") == [1, 6]
    assert found(store, "l", "k", limit=1) == [1]
    assert found(store, "k", user="bob") == [2]
    assert found(store, "") == found(store) == []


@pytest.mark.parametrize("key", ['"', "[", "a,b", "\N{SNOWMAN}", "'; --", "%", "K"])
def test_a_dedupe_key_is_any_text(store: Store, key: str) -> None:
    fill(store, [keyed(1, key=key), keyed(2)])
    assert found(store, key) == [1]
    assert store.load([1])[1].definition.dedupe_key == key
    with pytest.raises(IntegrityViolation):
        fill(store, [keyed(3, key=key)])


@pytest.mark.parametrize("state", ALIVE)
def test_no_second_job_has_the_key_of_one_that_lives(store: Store, state: JobState) -> None:
    fill(store, [keyed(1, state), keyed(2, S.CANCELLED)])
    assert found(store, "k") == [1]
    with pytest.raises(IntegrityViolation):
        fill(store, [keyed(3)])
    with pytest.raises(IntegrityViolation), store.transaction():
        store.save([after(keyed(2))])
    assert found(store, "k") == [1]
    with pytest.raises(IntegrityViolation):
        fill(store, [keyed(4, key="l"), keyed(5, key="l")])


@pytest.mark.parametrize("state", FINAL)
def test_a_final_job_leaves_its_key(store: Store, state: JobState) -> None:
    fill(store, [keyed(1, S.RUNNING), keyed(2, state)])
    with store.transaction():
        store.save([after(at(keyed(1, S.RUNNING), state))])
        assert found(store, "k") == []
        store.insert([keyed(3)])
        assert found(store, "k") == [3]
    assert found(store, "k") == [3]
    with store.transaction():
        store.delete([3])
    fill(store, [keyed(4)])
    assert found(store, "k") == [4]


@pytest.mark.parametrize("heir", [1, 2])
@pytest.mark.parametrize("heir_first", [True, False])
def test_a_key_goes_over_within_one_save(store: Store, heir: int, heir_first: bool) -> None:
    holder = 3 - heir
    fill(store, [keyed(heir, S.CANCELLED), keyed(holder, S.RUNNING)])
    saved = [after(keyed(heir), sequence=10), after(at(keyed(holder, S.RUNNING), S.CANCELLED), sequence=11)]
    with store.transaction():
        store.save(saved if heir_first else saved[::-1])
    assert found(store, "k") == [heir]


def test_sequences_grow_and_keep_up_with_the_clock(store: Store) -> None:
    with store.transaction():
        first = [store.sequence(now) for now in (100, 100, 50, 90, 200, 100)]
    if isinstance(store, SharedStore):
        # The clocks of several schedulers are no one's.
        assert first == sorted(set(first))
    else:
        assert first == [100, 101, 102, 103, 200, 201]
    with store.transaction():
        assert store.sequence(0) > first[-1]


def test_a_sequence_is_greater_than_all_that_are_stored(store: Store, tmp_path: Path) -> None:
    fill(store, [job(1, sequence=9000), job(2, sequence=7000)])
    if isinstance(store, SqliteStore):
        # Also in another life, on a clock that was set back.
        store.close()
        store = SqliteStore(tmp_path / "towpath.db")
        with store.transaction():
            assert store.sequence(5) > 9000
        store.close()


def test_no_two_jobs_have_one_sequence(store: Store) -> None:
    fill(store, [job(1, sequence=10), job(2, sequence=20)])
    with pytest.raises(IntegrityViolation):
        fill(store, [job(3, sequence=20)])
    with pytest.raises(IntegrityViolation), store.transaction():
        store.save([after(job(1), sequence=20)])


def test_changes_are_listed_by_sequence_from_any_place(store: Store) -> None:
    bob = lane(2, user="bob")
    jobs = [job(1, sequence=50), job(2, sequence=20), job(3, S.FAILED, sequence=40), job(4, of=bob, sequence=30)]
    fill(store, jobs, [lane(), bob])

    def changed(place: int, limit: int = 100, **by: object) -> list[int]:
        query = Matching(tenant="acme", changed_after=place, **by)  # type: ignore[arg-type]
        return [one.job_id for one in store.find(query, limit)]

    assert changed(0) == [2, 4, 3, 1]
    assert changed(30) == [3, 1]
    assert changed(29, 2) == [4, 3]
    assert changed(50) == []
    assert changed(0, user="ann") == [2, 3, 1]
    assert changed(20, states=(S.FAILED,)) == [3]
    assert [one.job_id for one in store.find(Matching(tenant="evil", changed_after=0), 9)] == []
    with store.transaction():
        store.save([after(job(2), sequence=60)])
    assert changed(30) == [3, 1, 2]


def test_pages_of_changes_miss_nothing_and_repeat_nothing(store: Store) -> None:
    fill(store, [job(number, sequence=1000 - 7 * number) for number in range(1, 26)])
    seen: list[int] = []
    place = 0
    while page := store.find(Matching(tenant="acme", changed_after=place), 4):
        seen += [one.job_id for one in page]
        place = page[-1].sequence
    assert seen == list(range(25, 0, -1))
