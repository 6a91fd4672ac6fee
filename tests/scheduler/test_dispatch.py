"""Who gets which job, and when: handoff, order, polls."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.stage import ADA, BOB, EVE, settled, stage
from towpath_server.core.errors import Conflict, Draining, JobNotFound, RequestIdReused, SessionUnknown
from towpath_server.core.job import SECOND, Definition, Job, JobState, Priority, Timeouts
from towpath_server.scheduler.messages import JobFilter, NewJob
from towpath_server.scheduler.transactions.claim import MOST_BYTES
from towpath_server.store.sqlite import SqliteStore


async def test_a_job_created_while_a_fitting_worker_is_parked_is_born_leased() -> None:
    async with stage() as s:
        worker = await s.worker()
        poll = s.poll(worker)
        await s.parked(1)
        created = await s.submit()
        assert created.state is JobState.LEASED
        assert created.revision == 1
        (leased,) = await poll
        assert leased == created


async def test_a_parked_worker_that_does_not_fit_is_left_alone() -> None:
    async with stage() as s:
        poll = s.poll(await s.worker(job_types=("other",)))
        await s.parked(1)
        assert (await s.submit()).state is JobState.QUEUED
        assert not poll.done()
        poll.cancel()


async def test_strict_priority_then_fifo_across_job_types_and_queues() -> None:
    async with stage() as s:
        low = await s.submit(priority=Priority.LOW)
        first = await s.submit(job_type="train", queue="b")
        second = await s.submit(queue="a")
        third = await s.submit(job_type="train", queue="a")
        urgent = await s.submit(queue="c", priority=Priority.CRITICAL)
        worker = await s.worker(slots=8, job_types=("echo", "train"))
        order = [job.job_id for job in await s.lease(worker, 8)]
        assert order == [job.job_id for job in (urgent, first, second, third, low)]


async def test_one_by_one_the_order_is_the_same() -> None:
    async with stage() as s:
        jobs = [await s.submit(queue=f"q{i % 3}", priority=Priority(1 + i % 4)) for i in range(24)]
        worker = await s.worker(slots=24)
        order = [(await s.lease(worker))[0].job_id for _ in jobs]
        assert order == [job.job_id for job in sorted(jobs, key=lambda job: (-job.priority, job.job_id))]


async def test_a_poll_takes_as_many_as_it_has_slots_and_never_waits_for_more() -> None:
    async with stage() as s:
        jobs = [await s.submit() for _ in range(3)]
        worker = await s.worker(slots=8)
        assert len(await s.lease(worker, 2)) == 2
        assert [job.job_id for job in await s.lease(worker, 6)] == [jobs[2].job_id]
        assert await s.lease(worker, 5) == []


async def test_a_batch_created_into_a_parked_poll_fills_its_slots_best_first() -> None:
    async with stage() as s:
        worker = await s.worker(slots=2)
        poll = s.poll(worker, 2)
        await s.parked(1)
        definition = Definition(tenant="", user="", job_type="echo")
        priorities = (Priority.LOW, Priority.NORMAL, Priority.HIGH)
        low, normal, high = await s.scheduler.jobs.create(ADA, [NewJob(definition, one) for one in priorities])
        assert [job.job_id for job in await poll] == [high.job_id, normal.job_id]
        assert low.state is JobState.QUEUED


async def test_a_parked_poll_is_given_no_more_at_once_than_an_answer_carries() -> None:
    async with stage() as s:
        first, second = await s.worker(slots=9), await s.worker(slots=9)
        polls = s.poll(first, 9), s.poll(second, 9)
        await s.parked(2)
        large = Definition(tenant="", user="", job_type="echo", spec=b"x" * (MOST_BYTES // 2))
        await s.scheduler.jobs.create(ADA, [NewJob(large) for _ in range(5)])
        assert [len(await poll) for poll in polls] == [2, 2]
        assert len(await s.lease(first, 9)) == 1


async def test_the_same_poll_id_gets_the_same_leases() -> None:
    async with stage() as s:
        await s.submit()
        await s.submit()
        worker = await s.worker(slots=2)
        first = await s.poll(worker, poll_id="p")
        assert await s.poll(worker, poll_id="p") == first
        assert (await s.poll(worker, poll_id="q"))[0].job_id != first[0].job_id


async def test_a_poll_whose_caller_is_gone_takes_no_job() -> None:
    async with stage() as s:
        worker = await s.worker()
        poll = s.poll(worker)
        await s.parked(1)
        poll.cancel()
        await s.parked(0)
        assert (await s.submit()).state is JobState.QUEUED


async def test_an_offer_that_was_never_mentioned_goes_back_to_the_head_and_costs_nothing() -> None:
    async with stage() as s:
        first, second = await s.submit(), await s.submit()
        worker = await s.worker(slots=2)
        (offered,) = await s.lease(worker)
        assert offered.job_id == first.job_id
        await s.tick(11)
        again = await s.get(first)
        assert (again.state, again.attempt, again.attempt_count, again.lost_count) == (JobState.QUEUED, 0, 0, 0)
        assert [job.job_id for job in await s.lease(worker, 2)] == [first.job_id, second.job_id]


async def test_a_lost_offer_wakes_a_parked_poll() -> None:
    async with stage() as s:
        gone, other = await s.worker(), await s.worker()
        job = await s.submit()
        await s.lease(gone)
        poll = s.poll(other)
        await s.parked(1)
        await s.tick(11)
        assert (await poll)[0].job_id == job.job_id


async def test_a_paused_queue_hands_out_nothing_and_wakes_polls_when_resumed() -> None:
    async with stage() as s:
        await s.scheduler.queues.pause(ADA, "night")
        worker = await s.worker()
        poll = s.poll(worker)
        await s.parked(1)
        job = await s.submit(queue="night")
        assert job.state is JobState.QUEUED
        assert not poll.done()
        await s.scheduler.queues.resume(ADA, "night")
        assert (await poll)[0].job_id == job.job_id


async def test_jobs_run_only_on_their_owners_workers() -> None:
    async with stage() as s:
        await s.submit(who=BOB)
        await s.submit(who=EVE)
        assert await s.lease(await s.worker(), 1) == []
        assert len(await s.lease(await s.worker(who=BOB), who=BOB)) == 1


async def test_a_repeated_request_gives_the_same_job_and_leases_nothing_twice() -> None:
    async with stage() as s:
        job = await s.submit("a", request_id="r")
        worker = await s.worker(slots=2)
        await s.lease(worker)
        poll = s.poll(worker)
        await s.parked(1)
        again = await s.submit("a", request_id="r")
        assert again.job_id == job.job_id
        await s.parked(1)
        assert not poll.done()
        with pytest.raises(RequestIdReused):
            await s.submit("b", request_id="r")
        poll.cancel()


async def test_many_racing_submits_with_one_request_id_make_one_job() -> None:
    async with stage() as s:
        jobs = await asyncio.gather(*(s.submit("a", request_id="r") for _ in range(50)))
        assert len({job.job_id for job in jobs}) == 1
        assert (await s.scheduler.jobs.stats(ADA, JobFilter())).total == 1


async def test_every_job_goes_to_exactly_one_of_many_racing_polls() -> None:
    async with stage() as s:
        workers = [await s.worker(slots=4) for _ in range(10)]
        polls = [s.poll(worker, 4) for worker in workers]
        await s.parked(10)
        await asyncio.gather(*(s.submit() for _ in range(60)))
        taken = [job.job_id for poll in polls for job in await poll]
        more = [job.job_id for worker in workers for job in await s.lease(worker, 10)]
        assert len(taken + more) == len(set(taken + more)) == 60


async def test_higher_work_that_is_still_being_committed_is_not_passed_by() -> None:
    async with stage() as s:
        worker = await s.worker()
        creating = [asyncio.ensure_future(s.submit(priority=Priority(1 + i % 4))) for i in range(8)]
        poll = s.poll(worker)
        jobs = await asyncio.gather(*creating)
        assert (await poll)[0].priority is max(job.priority for job in jobs)


async def test_another_tenants_job_answers_as_one_that_never_was() -> None:
    async with stage() as s:
        job = await s.submit()
        for who in (BOB, EVE):
            with pytest.raises(JobNotFound):
                await s.get(job, who)
            with pytest.raises(JobNotFound):
                await s.scheduler.jobs.cancel(who, job.job_id, "", False)


async def test_another_users_session_is_unknown() -> None:
    async with stage() as s:
        worker = await s.worker()
        with pytest.raises(SessionUnknown):
            await s.lease(worker, who=BOB)


async def test_drain_ends_polls_and_refuses_submits() -> None:
    async with stage() as s:
        poll = s.poll(await s.worker())
        await s.parked(1)
        s.scheduler.drain()
        with pytest.raises(Draining):
            await poll
        with pytest.raises(Draining):
            await s.submit()


async def test_a_drained_worker_gets_no_more_jobs() -> None:
    async with stage() as s:
        worker = await s.worker()
        poll = s.poll(worker)
        await s.parked(1)
        await s.scheduler.fleet.drain(ADA, worker.worker_id)
        assert await poll == []
        assert (await s.submit()).state is JobState.QUEUED
        assert await s.lease(worker) == []


async def test_one_answer_carries_no_more_than_a_channel_takes() -> None:
    async with stage() as s:
        definition = Definition(tenant="", user="", job_type="echo", spec=b"x" * 900_000)
        jobs = await s.scheduler.jobs.create(ADA, [NewJob(definition) for _ in range(5)])
        worker = await s.worker(slots=8)
        taken = []
        for expected in (2, 2, 1):
            leased = await s.lease(worker, 8)
            assert len(leased) == expected
            taken += leased
        assert [job.job_id for job in taken] == [job.job_id for job in jobs]


async def test_many_lanes_give_their_jobs_in_one_order() -> None:
    async with stage() as s:
        jobs = [await s.submit(queue=f"q{i % 7}" if i < 60 else "deep") for i in range(120)]
        worker = await s.worker(slots=120)
        assert [job.job_id for job in await s.lease(worker, 120)] == [job.job_id for job in jobs]


async def test_a_retry_and_a_cancel_in_one_commit(tmp_path: Path) -> None:
    async with stage(SqliteStore(tmp_path / "t.db")) as s:
        job = await s.submit(timeouts=Timeouts(queue=SECOND))
        await s.tick(2)
        assert await s.state(job) is JobState.TIMED_OUT
        retried = s.scheduler.jobs.retry(ADA, job.job_id)
        _, cancelled = await asyncio.gather(retried, s.scheduler.jobs.cancel(ADA, job.job_id, "", False))
        assert cancelled.state is JobState.CANCELLED


async def test_of_two_changes_with_one_etag_one_is_refused() -> None:
    async with stage() as s:
        job = await s.submit()
        high = lambda definition, priority: (definition, Priority.HIGH)  # noqa: E731
        updates = [s.scheduler.jobs.update(ADA, job.job_id, high, job.revision) for _ in range(2)]
        outcomes = await asyncio.gather(*updates, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Job, Conflict]


async def test_what_is_committed_is_told_though_the_caller_is_gone() -> None:
    async with stage() as s:
        worker = await s.worker()
        poll = s.poll(worker)
        await s.parked(1)
        creating = asyncio.ensure_future(s.submit())
        await settled(lambda: bool(s.scheduler.jobs._state._under_way))
        creating.cancel()
        (job,) = await poll
        moving = asyncio.ensure_future(s.scheduler.jobs.cancel(ADA, job.job_id, "", False))
        await settled(lambda: bool(s.scheduler.jobs._state._under_way))
        moving.cancel()
        stream = s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
        assert [order.type.name for order in await stream.orders()] == ["CANCEL"]


async def test_a_job_whose_only_worker_drains_is_told_so() -> None:
    async with stage() as s:
        worker = await s.worker()
        await s.scheduler.fleet.drain(ADA, worker.worker_id)
        job = await s.submit()
        assert "draining" in (await s.scheduler.jobs.explain(ADA, job.job_id)).summary
