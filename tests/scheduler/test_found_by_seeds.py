"""Mistakes that the simulation has found (tests/faults/simulation), each as a story of a few lines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.shared_stage import pair
from support.stage import ADA, Hands, Stage, stage
from support.store_gated import GatedStore
from towpath_server.core.errors import StoreFull
from towpath_server.core.events import Released, Started, Succeeded
from towpath_server.core.job import SECOND, Job, JobState, Priority, RetryPolicy, Timeouts
from towpath_server.core.records import Machine, Queue, Worker
from towpath_server.scheduler import feed
from towpath_server.scheduler.messages import DirectiveType, HeldLease, Registered, Registration, Report
from towpath_server.store.base import InLane, Query, Store
from towpath_server.store.memory import MemoryStore
from towpath_server.store.sqlite import SqliteStore


def token(job: Job) -> str:
    assert job.lease is not None
    return job.lease.token


async def again(s: Stage, worker: Registered, *held: Job) -> Registered:
    asked = Registration(
        worker_id=worker.worker_id,
        name="box",
        slots=1,
        job_types=("echo",),
        machine=Machine(cpu_count=2),
        held=tuple(HeldLease(one.job_id, token(one)) for one in held),
    )
    return await s.scheduler.workers.register(ADA, asked)


async def test_what_was_due_while_the_store_was_full_is_done_afterwards() -> None:
    store = GatedStore()
    async with stage(store) as s:
        job = await s.submit(timeouts=Timeouts(queue=SECOND))
        store.failure = StoreFull()
        with pytest.raises(StoreFull):
            await s.tick(2)
        store.failure = None
        await s.tick()
        assert await s.state(job) is JobState.TIMED_OUT


async def test_a_clock_put_back_gives_no_id_and_no_sequence_twice(tmp_path: Path) -> None:
    hands, seen = Hands(), set[int]()
    last = 0
    for _ in range(4):
        async with stage(SqliteStore(tmp_path / "towpath.sqlite"), hands) as s:
            job = await s.submit()
            worker = await s.worker()
            assert job.job_id > max(seen, default=0)
            assert job.sequence > last
            assert worker.worker_id not in seen
            job = await s.scheduler.jobs.cancel(ADA, job.job_id, "", force=True)
            last = job.sequence
            seen |= {job.job_id, worker.worker_id}
            # The newest is gone, and with it what could be read off it.
            await s.scheduler.jobs.delete(ADA, job.job_id)
        hands.move(-3600)


async def test_a_worker_may_still_tell_of_an_old_lease_of_a_job_that_it_was_given_again() -> None:
    async with stage() as s:
        job = await s.submit()
        worker = await s.worker()
        [first] = await s.lease(worker)
        stream = s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
        await stream.report([Report(1, job.job_id, Released(token(first)))])
        [second] = await s.lease(worker)
        for held in ((first, second), (second, first)):
            worker = await again(s, worker, *held)
            now = await s.get(job)
            assert now.state is JobState.LEASED
            assert token(now) == token(second)
            assert now.lost_count == 0


async def test_jobs_of_two_lanes_wake_those_who_can_take_them_all() -> None:
    async with stage() as s:
        both = await s.worker(job_types=("echo", "sort"))
        one = await s.worker()
        low = await s.submit(priority=Priority.LOW, schedule_time=s.hands.now + SECOND)
        high = await s.submit(job_type="sort", priority=Priority.HIGH, schedule_time=s.hands.now + SECOND)
        # Woken for `low`, the one that serves both takes `high`.
        first = s.poll(both)
        await s.parked(1)
        second = s.poll(one)
        await s.parked(2)
        await s.tick(2)
        assert [job.job_id for job in await first] == [high.job_id]
        assert [job.job_id for job in await second] == [low.job_id]


async def test_a_poll_that_fails_lets_others_know_of_the_job_that_it_was_woken_for() -> None:
    class Fickle(MemoryStore):
        claims_fail = False

        def find(self, query: Query, limit: int) -> list[Job]:
            if self.claims_fail and isinstance(query, InLane):
                self.claims_fail = False
                raise StoreFull
            return super().find(query, limit)

    store = Fickle()
    async with stage(store) as s:
        workers = [await s.worker(), await s.worker()]
        job = await s.submit(schedule_time=s.hands.now + SECOND)
        first = s.poll(workers[0])
        await s.parked(1)
        second = s.poll(workers[1])
        await s.parked(2)
        store.claims_fail = True
        await s.tick(2)
        with pytest.raises(StoreFull):
            await first
        assert [one.job_id for one in await second] == [job.job_id]


async def test_a_queue_whose_first_job_could_not_be_stored_is_stored_with_the_next() -> None:
    store = GatedStore()
    async with stage(store) as s:
        store.failure = StoreFull()
        with pytest.raises(StoreFull):
            await s.submit(queue="night")
        store.failure = None
        await s.submit(queue="night")
        assert [queue.name for queue in store.records(Queue)] == ["night"]


async def test_a_create_on_its_way_does_not_undo_a_pause() -> None:
    from towpath_server.scheduler.transactions.create import CREATE, CreateItem

    async with stage() as s:
        await s.scheduler.queues.pause(ADA, "night")
        late = CreateItem((), (), (Queue(tenant="acme", name="night", create_time=1),))
        await s.scheduler.timers._state.committer.submit(CREATE, late)
        store: Store = s.scheduler.timers._state.store
        assert [queue.paused for queue in store.records(Queue)] == [True]


async def test_retries_stand_behind_all_others_also_after_the_clock_was_put_back() -> None:
    store, hands = MemoryStore(), Hands()
    store.close = lambda: None  # type: ignore[method-assign]
    async with stage(store, hands) as s:
        worker = await s.worker()
        old = await s.submit(retry=RetryPolicy())
        [leased] = await s.lease(worker)
        stream = s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
        await stream.report([Report(1, old.job_id, Succeeded(token(leased), b""))])
        waiting = await s.submit()
    hands.move(-3600)
    async with stage(store, hands) as s:
        retried = await s.scheduler.jobs.retry(ADA, old.job_id)
        assert retried.position > waiting.position


async def test_a_drain_does_not_undo_the_beginning_of_a_session() -> None:
    store = GatedStore()
    async with stage(store) as s:
        worker = await s.worker()
        store.gate.clear()
        coming = asyncio.ensure_future(again(s, worker))
        await asyncio.to_thread(store.arrived.acquire)
        draining = asyncio.ensure_future(s.scheduler.fleet.drain(ADA, worker.worker_id))
        await asyncio.sleep(0)  # a turn, not a time
        store.gate.set()
        registered = await coming
        view = await draining
        assert view.worker.session_id == registered.session_id
        [stored] = store.records(Worker)
        assert stored.session_id == registered.session_id
        assert stored.draining


async def test_a_drain_is_told_though_the_scheduler_was_started_again_meanwhile(tmp_path: Path) -> None:
    hands = Hands()
    async with stage(SqliteStore(tmp_path / "towpath.sqlite"), hands) as s:
        worker = await s.worker()
        await s.scheduler.fleet.drain(ADA, worker.worker_id)
    async with stage(SqliteStore(tmp_path / "towpath.sqlite"), hands) as s:
        stream = s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
        async with asyncio.timeout(5):
            assert [order.type for order in await stream.orders()] == [DirectiveType.DRAIN]


async def test_what_a_worker_is_given_after_its_removal_elsewhere_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LOOK", 3600.0)
    async with pair() as two:
        there = two.other.stage
        worker = await there.worker()
        job = await there.submit()
        await two.one.catch_up()
        two.hub.loses_notices = True
        await two.one.stage.scheduler.fleet.remove(ADA, worker.worker_id)
        # Its own scheduler does not know it yet.
        [leased] = await there.lease(worker)
        assert leased.lease is not None
        stream = there.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
        await stream.report([Report(1, job.job_id, Started(leased.lease.token))])
        await two.other.catch_up()
        await there.scheduler.workers.end_silent_sessions()
        assert (await there.get(job)).state is JobState.QUEUED


async def test_the_late_answer_to_a_drain_does_not_bring_back_what_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair() as two:
        worker = await two.other.stage.worker()
        await two.one.catch_up()
        two.hands.now += SECOND
        committer = two.other.state.committer
        submit = committer.submit

        async def slow(verb: Any, item: Any) -> Any:
            outcome = await submit(verb, item)
            if verb.name == "drain":
                monkeypatch.undo()
                # Meanwhile the worker begins anew at the other one, and that is heard of.
                await again(two.one.stage, worker)
                await two.other.catch_up()
            return outcome

        monkeypatch.setattr(committer, "submit", slow)
        await two.other.stage.scheduler.fleet.drain(ADA, worker.worker_id)
        known, there = (side.state.workers[worker.worker_id] for side in (two.other, two.one))
        assert known == there
