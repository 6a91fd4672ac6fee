"""What happens in the moments between: while a commit is under way, after a poll has failed, when a sleeper is back."""

from __future__ import annotations

import asyncio
import gc

import pytest

from support.stage import ADA, Stage, settled, stage
from support.store_gated import GatedStore
from towpath_server.core.errors import StoreUnavailable
from towpath_server.core.events import Progressed, Started, Succeeded
from towpath_server.core.job import Job, JobState, Progress
from towpath_server.core.records import Machine, ModelRecord, Queue
from towpath_server.scheduler.connection import Connection
from towpath_server.scheduler.messages import (
    Directive,
    DirectiveType,
    Heartbeat,
    HeldLease,
    Registered,
    Registration,
    Report,
)


def token(job: Job) -> str:
    assert job.lease is not None
    return job.lease.token


def connect(s: Stage, worker: Registered) -> Connection:
    return s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)


async def again(s: Stage, worker: Registered, *jobs: Job) -> Registered:
    asked = Registration(
        worker_id=worker.worker_id,
        name="box",
        slots=1,
        job_types=("echo",),
        machine=Machine(cpu_count=2),
        held=tuple(HeldLease(job.job_id, token(job)) for job in jobs),
    )
    return await s.scheduler.workers.register(ADA, asked)


async def held_up(store: GatedStore) -> None:
    """Wait until the next commit stands at the gate."""
    await asyncio.to_thread(store.arrived.acquire)


def close_gate(store: GatedStore) -> None:
    store.gate.clear()
    while store.arrived.acquire(blocking=False):
        pass


async def sleeper(s: Stage) -> tuple[Registered, Job, Connection]:
    """A worker that was thought lost, and came back with the job that it still runs."""
    worker = await s.worker()
    await s.submit()
    (job,) = await s.lease(worker)
    await connect(s, worker).report([Report(1, job.job_id, Started(token(job)))])
    await s.tick(16)
    assert await s.state(job) is JobState.QUEUED
    worker = await again(s, worker, job)
    assert await s.state(job) is JobState.RUNNING
    return worker, job, connect(s, worker)


def model(number: int) -> ModelRecord:
    return ModelRecord(
        model_id=number,
        worker_id=0,
        tenant="",
        user="",
        name="m",
        version=number,
        model_type="xgboost",
        task_type=1,
        create_time=number,
    )


async def order(stream: Connection) -> Directive:
    (only,) = await asyncio.wait_for(stream.orders(), 5)
    return only


async def test_a_poll_that_failed_is_tried_again_under_its_poll_id() -> None:
    store = GatedStore()
    async with stage(store) as s:
        worker = await s.worker()
        job = await s.submit()
        store.failure = StoreUnavailable()
        with pytest.raises(StoreUnavailable):
            await s.poll(worker, poll_id="one", wait=0)
        store.failure = None
        assert [one.job_id for one in await s.poll(worker, poll_id="one", wait=0)] == [job.job_id]


async def test_a_delayed_job_that_becomes_due_while_it_is_committed_is_handed_out() -> None:
    store = GatedStore()
    async with stage(store) as s:
        worker = await s.worker()
        close_gate(store)
        first = asyncio.ensure_future(s.submit("first", job_type="other"))
        await held_up(store)
        delayed = asyncio.ensure_future(s.submit("delayed", schedule_time=s.hands.now + 1000))
        await asyncio.sleep(0)
        s.hands.move(1)
        store.gate.set()
        await first
        assert (await delayed).state is JobState.QUEUED
        assert [one.job_id for one in await s.lease(worker)] == [(await delayed).job_id]


async def test_the_polls_of_the_session_before_end_when_the_worker_registers_again() -> None:
    async with stage() as s:
        worker = await s.worker()
        poll = s.poll(worker)
        await s.parked(1)
        await again(s, worker)
        assert await asyncio.wait_for(poll, 5) == []
        assert (await s.submit()).state is JobState.QUEUED


async def test_a_poll_whose_caller_goes_while_it_asks_the_store_is_not_parked() -> None:
    store = GatedStore()
    async with stage(store) as s:
        gone, other = await s.worker(), await s.worker()
        job = await s.submit()
        close_gate(store)
        cancelling = asyncio.ensure_future(s.scheduler.jobs.cancel(ADA, job.job_id, "", force=False))
        await held_up(store)
        poll = s.poll(gone)
        await settled(lambda: s.under_way(gone))
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        store.gate.set()
        await cancelling
        await settled(lambda: not s.under_way(gone))
        assert s.parked_now() == 0
        fresh = await s.submit()
        assert fresh.state is JobState.QUEUED
        assert [one.job_id for one in await s.lease(other)] == [fresh.job_id]


async def test_a_sleeper_that_tells_of_progress_is_let_go_on_and_its_result_counts() -> None:
    async with stage() as s:
        _, job, stream = await sleeper(s)
        await stream.report([Report(1, job.job_id, Progressed(token(job), Progress(percent=50)))])
        stream.heartbeat(Heartbeat((HeldLease(job.job_id, token(job)),)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.orders(), 0)
        await stream.report([Report(2, job.job_id, Succeeded(token(job), b"late"))])
        assert await s.state(job) is JobState.SUCCEEDED


async def test_a_sleeper_is_told_when_its_job_is_cancelled() -> None:
    async with stage() as s:
        _, job, stream = await sleeper(s)
        await s.scheduler.jobs.cancel(ADA, job.job_id, "", force=False)
        told = await order(stream)
        assert (told.type, told.token) == (DirectiveType.CANCEL, token(job))


async def test_profiles_that_no_worker_has_any_more_are_forgotten() -> None:
    async with stage() as s:
        worker = await s.worker()
        await s.submit(job_type="other")
        for number in range(1, 6):
            await s.scheduler.workers.sync_models(ADA, worker.worker_id, worker.session_id, [model(number)])
            await s.lease(worker)
        assert s.profiles() == 1
        await s.scheduler.workers.deregister(ADA, worker.worker_id, worker.session_id)
        assert s.profiles() == 0


@pytest.mark.parametrize("refused_first", [True, False])
async def test_a_create_that_is_refused_makes_no_queue_and_takes_none_from_another(refused_first: bool) -> None:
    store = GatedStore()
    async with stage(store) as s:
        await s.submit("one", request_id="used")
        close_gate(store)
        blocking = asyncio.ensure_future(s.submit("first"))
        await held_up(store)
        calls = [s.submit("other", request_id="used", queue="new"), s.submit("two", queue="new")]
        together = [asyncio.ensure_future(call) for call in (calls if refused_first else calls[::-1])]
        alone = asyncio.ensure_future(s.submit("third", request_id="used", queue="never"))
        await asyncio.sleep(0)
        store.gate.set()
        await asyncio.gather(blocking, *together, alone, return_exceptions=True)
        assert [queue.queue.name for queue in await s.scheduler.queues.queues(ADA)] == ["default", "new"]
        assert [queue.name for queue in store.records(Queue)] == ["default", "new"]


async def test_what_the_store_did_not_take_of_a_heartbeat_the_next_one_says_again() -> None:
    store = GatedStore()
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
    async with stage(store) as s:
        worker = await s.worker()
        job = await s.submit()
        [leased] = await s.lease(worker)
        stream = s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
        names = Heartbeat((HeldLease(job.job_id, token(leased)),))
        store.failure = StoreUnavailable()
        stream.heartbeat(names)
        await s.scheduler._state.finish()
        store.failure = None
        gc.collect()
        assert unheard == []
        stream.heartbeat(names)
        await s.scheduler._state.finish()
        confirmed = (await s.get(job)).lease
        assert confirmed is not None
        assert confirmed.confirmed
