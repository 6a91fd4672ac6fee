"""What the simulation of several schedulers has found, each once more by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.shared_stage import Pair, Replica, again, pair
from support.stage import ADA, stage
from towpath_server.core.events import Progressed, Started
from towpath_server.core.job import JobState, Priority, Progress
from towpath_server.core.records import Head, Worker
from towpath_server.scheduler.changes import Change
from towpath_server.scheduler.messages import DirectiveType, Heartbeat, Report


@pytest.fixture
async def two() -> AsyncIterator[Pair]:
    async with pair() as started:
        yield started


async def deaf(replica: Replica) -> None:
    """From now on it hears of nothing."""
    assert replica.stage.scheduler._feed is not None
    await replica.stage.scheduler._feed.stop()


async def test_one_that_stood_still_ends_no_session_that_another_one_has_adopted(two: Pair) -> None:
    worker = await two.one.stage.worker()
    job = await two.one.stage.submit()
    await two.one.stage.lease(worker)
    await two.other.catch_up()
    await two.die()
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    # Its clocks run before it beats: to it, the worker was silent all the time.
    two.hands.move(20)
    stream.heartbeat(Heartbeat(()))
    await two.one.stage.scheduler.workers.end_silent_sessions()
    assert two.other.kept(worker).session_id == worker.session_id
    assert await two.other.stage.state(job) is JobState.LEASED


async def test_a_worker_is_told_of_what_happened_elsewhere_before_a_change_made_here(two: Pair) -> None:
    worker = await two.one.stage.worker()
    job = await two.one.stage.submit()
    [leased] = await two.one.stage.lease(worker)
    assert leased.lease is not None
    stream = two.one.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    await stream.report([Report(1, job.job_id, Started(leased.lease.token))])
    # From now on the one hears of nothing; what it then changes itself is no news to it.
    await deaf(two.one)
    await two.other.stage.scheduler.jobs.cancel(ADA, job.job_id, "enough", force=False)
    await stream.report([Report(2, job.job_id, Progressed(leased.lease.token, Progress(percent=50)))])
    [order] = await stream.orders()
    assert (order.type, order.job_id) == (DirectiveType.CANCEL, job.job_id)


async def test_a_change_in_a_lane_that_was_not_heard_of_is_taken_in(two: Pair) -> None:
    worker = await two.one.stage.worker(job_types=("unheard",))
    await deaf(two.one)
    job = await two.other.stage.submit(job_type="unheard")
    await two.other.stage.scheduler.jobs.cancel(ADA, job.job_id, "", force=False)
    assert (await two.one.stage.scheduler.jobs.retry(ADA, job.job_id)).state is JobState.QUEUED
    assert [leased.job_id for leased in await two.one.stage.lease(worker)] == [job.job_id]


async def test_a_lease_that_came_under_the_session_before_goes_on_under_the_present_one(two: Pair) -> None:
    worker = await two.one.stage.worker()
    # The one does not hear that its worker went to the other, and answers the poll that is parked.
    await deaf(two.one)
    poll = two.one.stage.poll(worker)
    await two.one.stage.parked(1)
    moved = await two.other.stage.scheduler.workers.register(ADA, again(worker))
    job = await two.one.stage.submit()
    [leased] = await poll
    assert leased.lease is not None
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, moved.session_id)
    await stream.report([Report(1, job.job_id, Started(leased.lease.token))])
    running = await two.other.stage.get(job)
    assert running.lease is not None
    assert running.lease.session_id == moved.session_id
    # And so it ends with that session.
    await two.other.stage.tick(30)
    assert await two.other.stage.state(job) is JobState.QUEUED


async def test_a_new_one_does_not_take_the_number_under_which_sessions_wait_for_somebody() -> None:
    async with pair() as two:
        worker = await two.one.stage.worker()
        number = two.one.state.replica_id
        await two.one.stage.scheduler.stop()
        after = two.hub.store()
        async with stage(after, two.hands) as third:
            assert third.scheduler.replica_id != number
            [kept] = after.records(Worker, [(worker.worker_id,)])
            assert kept.replica_id == third.scheduler.replica_id


async def test_a_look_at_all_lanes_takes_nothing_from_a_job_on_its_way_into_the_store(two: Pair) -> None:
    job = await two.one.stage.submit()
    lanes = two.one.store.lanes()
    board = two.one.state.board
    board.push(job.lane_id, Head(Priority.CRITICAL, -job.position))
    assert board.compare(dict.fromkeys(lanes)) == {}
    assert board._heads[job.lane_id] == Head(Priority.CRITICAL, -job.position)


async def test_what_is_heard_before_an_older_change_made_here_is_taken_in_is_not_lost(two: Pair) -> None:
    worker = await two.other.stage.worker()
    job = await two.one.stage.submit()
    await two.other.catch_up()
    state = two.other.state
    absorb, late = state.absorb, list[Change]()
    # Its own commit is on its way from the writer to the event loop.
    state.absorb = late.extend  # type: ignore[method-assign, assignment]
    await two.other.stage.lease(worker)
    await two.one.stage.scheduler.jobs.cancel(ADA, job.job_id, "enough", force=True)
    await two.other.catch_up()
    absorb(late)
    await two.other.catch_up()
    session = state.sessions.of_worker(worker.worker_id)
    assert session is not None
    assert not session.held
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    assert [(order.type, order.job_id) for order in await stream.orders()] == [(DirectiveType.KILL, job.job_id)]
