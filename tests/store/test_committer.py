"""The group commit: who is answered when, and with whose error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from support.store_gated import Calls, GatedStore, held_up, running, stored, submit_all
from support.store_samples import fill, job, lane
from towpath_server.core.errors import Conflict, Draining, JobNotFound, StoreFull, StoreUnavailable, TowpathError
from towpath_server.core.job import Job
from towpath_server.store.base import Contended, Matching, Store
from towpath_server.store.committer import HEAVY, Committer, Verb
from towpath_server.store.sqlite import SqliteStore

ALL = Matching(tenant="acme")


def load_one(job_id: int, store: Store) -> Job:
    return store.load([job_id])[job_id]


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


async def test_nothing_is_answered_before_its_commit(store: GatedStore) -> None:
    async with running(store) as committer:
        store.gate.clear()
        (answer,) = submit_all(committer, Calls().verb(), [1])
        await asyncio.to_thread(store.arrived.acquire)
        assert await committer.read(stored) == []
        assert not answer.done()
        store.gate.set()
        assert await answer == "job 1"
        assert await committer.read(stored) == [1]


async def test_what_arrives_during_a_commit_goes_into_the_next_together(store: GatedStore) -> None:
    calls = Calls()
    async with running(store) as committer:
        async with held_up(store, committer):
            answers = submit_all(committer, calls.verb(), range(1, 101))
            await asyncio.sleep(0)
        assert await asyncio.gather(*answers) == [f"job {number}" for number in range(1, 101)]
    assert calls.groups == [list(range(1, 101))]
    assert store.commits == 2


async def test_verbs_run_by_rank_and_then_by_arrival(store: GatedStore) -> None:
    calls = Calls()
    async with running(store) as committer:
        async with held_up(store, committer):
            last, second, first = calls.verb("last", 5), calls.verb("second"), calls.verb("first", -1)
            pairs = [(last, 1), (second, 2), (first, 3), (second, 4), (last, 5), (calls.verb("third"), 6)]
            answers = [task for verb, item in pairs for task in submit_all(committer, verb, [item])]
            await asyncio.sleep(0)
        assert await asyncio.gather(*answers) == [f"job {number}" for number in range(1, 7)]
    assert calls.names == ["first", "second", "third", "last"]
    assert calls.groups == [[3], [2, 4], [6], [1, 5]]


async def test_a_group_has_its_limit(store: GatedStore) -> None:
    calls = Calls()
    async with running(store, max_group=3) as committer:
        async with held_up(store, committer):
            answers = submit_all(committer, calls.verb(), range(8))
            await asyncio.sleep(0)
        await asyncio.gather(*answers)
    assert calls.groups == [[0, 1, 2], [3, 4, 5], [6, 7]]


def at_3(item: int) -> object:
    if item == 3:
        raise ZeroDivisionError
    return None


async def test_a_poisonous_item_fails_alone(store: GatedStore) -> None:
    calls = Calls()
    async with running(store) as committer:
        async with held_up(store, committer):
            answers = submit_all(committer, calls.verb(spoil=at_3), [1, 2, 3, 4])
            others = submit_all(committer, calls.verb("other"), [5])
            await asyncio.sleep(0)
        results = await asyncio.gather(*answers, *others, return_exceptions=True)
    assert [type(result) for result in results] == [str, str, ZeroDivisionError, str, str]
    assert stored(store) == [1, 2, 4, 5]
    assert calls.groups == [[1, 2, 3, 4], [1], [2], [3], [4], [5]]


async def test_an_error_of_the_rules_that_a_verb_raises_reaches_its_item(store: GatedStore) -> None:
    def conflict(item: int) -> object:
        if item == 2:
            raise Conflict(what="Job 2")
        return None

    async with running(store) as committer:
        async with held_up(store, committer):
            answers = submit_all(committer, Calls().verb(spoil=conflict), [1, 2])
            await asyncio.sleep(0)
        results = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(result) for result in results] == [str, Conflict]
    assert stored(store) == [1]


async def test_an_error_that_is_an_outcome_undoes_nothing(store: GatedStore) -> None:
    calls = Calls()
    async with running(store) as committer:
        async with held_up(store, committer):
            missing = calls.verb(spoil=lambda item: JobNotFound(job_id=item) if item == 2 else None)
            answers = submit_all(committer, missing, [1, 2, 3])
            await asyncio.sleep(0)
        results = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(result) for result in results] == [str, JobNotFound, str]
    assert calls.groups == [[1, 2, 3]]
    assert store.commits == 2


@pytest.mark.parametrize("error", [StoreFull, StoreUnavailable])
async def test_an_error_of_the_store_fails_the_group_and_passes(store: GatedStore, error: type[TowpathError]) -> None:
    calls = Calls()
    async with running(store) as committer:
        store.gate.clear()
        first = submit_all(committer, calls.verb(), [0])
        await asyncio.to_thread(store.arrived.acquire)
        answers = submit_all(committer, calls.verb(), [1, 2, 3])
        await asyncio.sleep(0)
        store.failure = error()
        store.gate.set()
        results = await asyncio.gather(*first, *answers, return_exceptions=True)
        assert [type(result) for result in results] == [error] * 4
        assert len(set(map(id, results))) == 4
        assert calls.groups == [[0], [1, 2, 3]]
        assert await committer.read(stored) == []
        store.failure = None
        assert await committer.submit(calls.verb(), 1) == "job 1"


async def test_a_wrong_number_of_outcomes_is_a_bug_of_the_verb(store: GatedStore) -> None:
    async with running(store) as committer:
        with pytest.raises(RuntimeError, match="none gave 0 outcomes for 1 items"):
            await committer.submit(Verb[int, str]("none", lambda store, now, items: []), 1)


async def test_even_stop_iteration_reaches_its_item(store: GatedStore) -> None:
    def stop(store: Store, now: int, items: Sequence[int]) -> list[str]:
        raise StopIteration

    async with running(store) as committer:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await committer.submit(Verb("stop", stop), 1)
        assert await committer.submit(Calls().verb(), 1) == "job 1"


async def test_what_its_caller_gave_up_is_carried_out(store: GatedStore) -> None:
    async with running(store) as committer:
        async with held_up(store, committer):
            (gone,) = submit_all(committer, Calls().verb(), [1])
            await asyncio.sleep(0)
            gone.cancel()
            (stays,) = submit_all(committer, Calls().verb(), [2])
            await asyncio.sleep(0)
        assert await stays == "job 2"
        assert gone.cancelled()
        assert await committer.read(stored) == [1, 2]


async def test_stop_finishes_what_was_submitted_and_takes_no_more(store: GatedStore) -> None:
    committer = Committer(store, lambda: 1, max_group=2)
    committer.start()
    async with held_up(store, committer):
        answers = submit_all(committer, Calls().verb(), range(1, 8))
        look = asyncio.create_task(committer.read(lambda store: store.name))
        await asyncio.sleep(0)
        stopping = [asyncio.create_task(committer.stop()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await committer.submit(Calls().verb(), 9)
        with pytest.raises(Draining):
            await committer.read(stored)
        assert not stopping[0].done()
    await asyncio.gather(*stopping)
    assert await asyncio.gather(*answers) == [f"job {number}" for number in range(1, 8)]
    assert await look == "memory"
    assert stored(store) == list(range(1, 8))
    await committer.stop()


async def test_it_must_be_started(store: GatedStore) -> None:
    with pytest.raises(RuntimeError, match="start the committer"):
        await Committer(store, lambda: 1).submit(Calls().verb(), 1)


async def test_the_clock_is_read_once_a_group_and_never_runs_backwards(store: GatedStore) -> None:
    calls = Calls()
    times = iter([50, 40, 60])
    async with running(store, lambda: next(times)) as committer:
        for group in ([1], [2], [3]):
            await asyncio.gather(*submit_all(committer, calls.verb(), group))
    assert calls.times == [50, 50, 60]


async def test_a_read_that_fails_tells_its_caller(store: GatedStore) -> None:
    def fail(store: Store) -> None:
        raise ZeroDivisionError

    async with running(store) as committer:
        with pytest.raises(ZeroDivisionError):
            await committer.read(fail)
        assert await committer.read(stored) == []


async def test_many_submitters_on_sqlite(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "towpath.db")
    fill(store, [], [lane()])
    calls = Calls()
    verb = calls.verb()
    numbers = count(1)

    async def submitter(committer: Committer) -> None:
        for _ in range(20):
            number = next(numbers)
            assert await committer.submit(verb, number) == f"job {number}"
            assert await committer.read(partial(load_one, number)) == job(number)

    async with running(store) as committer:
        await asyncio.gather(*(submitter(committer) for _ in range(20)))
    assert stored(store) == list(range(1, 401))
    assert sum(map(len, calls.groups)) == 400
    store.close()
    again = SqliteStore(tmp_path / "towpath.db")
    assert len(stored(again)) == 400
    again.close()


async def test_a_long_look_at_the_store_keeps_no_short_one_waiting(store: GatedStore) -> None:
    seen = threading.Event()
    async with running(store) as committer:
        long = asyncio.create_task(committer.scan(lambda store: seen.wait(60)))
        assert await committer.read(lambda store: 7) == 7
        assert not long.done()
        seen.set()
        assert await long


async def test_what_others_are_in_the_way_of_is_halved_and_tried_again(store: GatedStore) -> None:
    """A transaction that is too much for the time that others leave goes through in pieces, each item once."""
    groups: list[list[int]] = []

    def run(view: Store, now: int, items: Sequence[int]) -> list[str | TowpathError]:
        groups.append(list(items))
        if len(items) > 2:
            raise Contended("too slow")
        return [f"job {item}" for item in items]

    async with running(store) as committer:
        async with held_up(store, committer):
            answers = submit_all(committer, Verb("slow", run), range(1, 9))
            await asyncio.sleep(0)
        assert await asyncio.gather(*answers) == [f"job {item}" for item in range(1, 9)]
    through = [group for group in groups if len(group) <= 2]
    assert sorted(number for group in through for number in group) == list(range(1, 9))
    assert groups[0] == list(range(1, 9))
    assert len(groups) == 7


async def test_what_is_always_in_the_way_is_told_as_the_stores_trouble(store: GatedStore) -> None:
    def run(view: Store, now: int, items: Sequence[int]) -> list[int | TowpathError]:
        raise Contended("always")

    async with running(store) as committer:
        with pytest.raises(StoreUnavailable):
            await committer.submit(Verb("never", run), 1)


async def test_a_commit_holds_no_more_than_can_be_sent_soon(store: GatedStore) -> None:
    calls = Calls()
    heavy = replace(calls.verb(), weigh=lambda item: HEAVY // 2)
    async with running(store) as committer:
        async with held_up(store, committer):
            answers = submit_all(committer, heavy, range(1, 6))
            await asyncio.sleep(0)
        await asyncio.gather(*answers)
    assert calls.groups == [[1, 2], [3, 4], [5]]


async def test_small_items_go_ahead_of_large_ones_in_a_commit_of_their_own(store: GatedStore) -> None:
    """What else came keeps its place behind the large ones: it may need them."""
    calls = Calls()
    create = replace(calls.verb("create"), weigh=lambda item: 100 if item >= 10 else 1, small=10)
    claim = replace(calls.verb("claim"), rank=1)
    async with running(store) as committer:
        async with held_up(store, committer):
            answers = [
                *submit_all(committer, create, [10, 1]),
                *submit_all(committer, claim, [5]),
                *submit_all(committer, create, [2, 11]),
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*answers)
        assert calls.groups == [[1, 2], [10, 11], [5]]
        # One that held the others up, and these two.
        assert store.commits == 3
