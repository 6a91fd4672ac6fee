"""Lines 10 and 11 of the catalogue: many polls, and a tenant that floods."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import grpc.aio

from support import storms
from support.bare_worker import STARTED, BareWorker, Metadata, result
from support.line import SOON, Line, line
from support.proxy import Way, proxy
from support.stage import Hands, settled
from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.clocks import OFFER_TTL
from towpath_server.core.job import SECOND
from towpath_server.core.records import Role
from towpath_server.scheduler import Clock

SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
POLLS, ALONE, CHANNELS = 1000, 50, 4
# Channels to one address would otherwise share one connection.
OWN = [("grpc.use_local_subchannel_pool", 1)]


async def test_line_10_a_thousand_polls_are_parked_and_one_batch_serves_each_once(tmp_path: Path) -> None:
    async with line(tmp_path) as at, AsyncExitStack() as stack:
        opened = [grpc.aio.insecure_channel(at.stage.address, OWN) for _ in range(CHANNELS + ALONE)]
        for channel in opened:
            await stack.enter_async_context(channel)
        shared = [opened[number % CHANNELS] for number in range(POLLS - ALONE)]
        workers = [BareWorker(channel, at.stage.bearer()) for channel in [*shared, *opened[CHANNELS:]]]
        await asyncio.gather(*(worker.register() for worker in workers))
        polls = [worker.poll(wait=SOON) for worker in workers]
        await settled(lambda: len(at.stage.scheduler._state.waiters) == POLLS, seconds=SOON)
        # Parked: none was answered, none was CANCELLED.
        assert not any(poll.done() for poll in polls)
        await at.create_many(POLLS)
        leases = [lease for answer in await asyncio.gather(*polls) for lease in answer.leases]
        assert len(leases) == len({lease.job.job_id for lease in leases}) == POLLS
        assert len({lease.job.worker_id for lease in leases}) == POLLS
        assert {lease.attempt for lease in leases} == {1}


CROWD = 500


async def test_line_10_a_crowd_of_workers_comes_back_after_a_restart(tmp_path: Path) -> None:
    seen = storms.Seen(Counter(), Counter())
    start = storms.Start(asyncio.Semaphore(storms.AT_ONCE), asyncio.Semaphore(0), asyncio.Event())
    start.polling.set()
    async with proxy("") as network, AsyncExitStack() as stack:
        opened = [grpc.aio.insecure_channel(network.address, OWN) for _ in range(CHANNELS)]
        for channel in opened:
            await stack.enter_async_context(channel)
        async with line(tmp_path) as at:
            network.upstream = at.stage.address
            _, secret = await at.stage.scheduler.access.issue("default", "admin", "crowd", Role.WORKER)
            who = (("authorization", f"Bearer {secret}"),)
            workers = [BareWorker(opened[number % CHANNELS], who) for number in range(CROWD)]
            lives = [asyncio.create_task(storms.live(worker, seen, start)) for worker in workers]
            await settled(lambda: len(at.stage.scheduler._state.waiters) == CROWD, seconds=SOON)
        network.upstream = "127.0.0.1:9"
        network.cut()
        async with line(tmp_path) as at:
            network.upstream = at.stage.address
            await settled(lambda: len(at.stage.scheduler._state.waiters) == CROWD, seconds=SOON)
            # They went on with the sessions that they had.
            assert seen.registrations == CROWD
            await at.create_many(CROWD)
            await settled(lambda: seen.jobs.total() >= CROWD, seconds=SOON)
            for one in lives:
                one.cancel()
            await asyncio.gather(*lives, return_exceptions=True)
    assert set(seen.codes) == {"UNAVAILABLE"}
    assert len(seen.jobs) == CROWD


STORM_WORKERS, STORM_JOBS = 20, 200


async def test_line_10_a_storm_of_cancelled_polls_spends_no_attempt(tmp_path: Path) -> None:
    hands, chance = Hands(), random.Random(10)
    async with line(tmp_path, Clock(lambda: hands.now, lambda: hands.steady)) as at:
        workers = [at.worker() for _ in range(STORM_WORKERS)]
        await asyncio.gather(*(worker.register() for worker in workers))
        storm = asyncio.Event()
        working = [asyncio.create_task(work(worker, chance, storm)) for worker in workers]
        for _ in range(STORM_JOBS // STORM_WORKERS):
            await asyncio.gather(*(at.stage.create() for _ in workers))
        storm.set()
        served, cancelled = (sum(counts) for counts in zip(*await asyncio.gather(*working), strict=True))
        # One more, whose answer is surely lost on its way.
        async with grpc.aio.insecure_channel(at.network.address, OWN) as channel:
            workers.append(BareWorker(channel, at.stage.bearer()))
            await workers[-1].register()
            at.network.swallow(Way.DOWN)
            await at.stage.create()
            poll = workers[-1].poll()
            session = at.stage.scheduler._state.sessions.get(workers[-1].session.session_id)
            assert session is not None
            await settled(lambda: bool(session.held))
            await at.network.holds(Way.DOWN)
            poll.cancel()
            at.network.cut()
            at.network.heal()
        workers.pop()
        # Nobody cancels any more: what was lost on its way is there again after the time of one offer.
        hands.move(OFFER_TTL / SECOND)
        for worker in workers:
            await worker.stream().beat()
        await at.stage.tick()
        jobs = {job.job_id: job for job in await at.rows()}
        lost = [job for job in jobs.values() if job.state != SUCCEEDED]
        assert {(job.state, job.attempt, job.lost_count) for job in lost} <= {(job_pb2.JOB_STATE_QUEUED, 0, 0)}
        assert cancelled > STORM_JOBS / 10
        assert served == STORM_JOBS + 1 - len(lost) <= STORM_JOBS
        while lost:
            leases = await workers[0].lease(wait=0)
            assert len(leases) == 1
            await workers[0].stream().tell(leases[0], succeeded=result("done"))
            lost.pop()
        ends = Counter((job.state, job.attempt, job.attempt_count, job.lost_count) for job in await at.rows())
        assert ends == {(SUCCEEDED, 1, 1, 0): STORM_JOBS + 1}


async def work(worker: BareWorker, chance: random.Random, storm: asyncio.Event) -> tuple[int, int]:
    """Poll and run jobs until the storm is over, and cancel polls at random; how many jobs, and cancelled polls."""
    served = cancelled = 0
    while not storm.is_set():
        poll = worker.poll(wait=0.5)
        if chance.random() < 0.5:
            # When to cancel is what is varied here; nothing waits for it.
            await asyncio.sleep(chance.random() / 100)
            # It may have been answered already: then the answer is thrown away.
            poll.cancel()
            cancelled += 1
            continue
        reports = worker.stream()
        for lease in (await poll).leases:
            await reports.tell(lease, started=STARTED)
            await reports.tell(lease, succeeded=result("done"))
            served += 1
        reports.break_off()
    return served, cancelled


FLOOD_QUEUED, FLOOD_CALLS, FLOOD_BATCH = 5000, 50, 100


async def tenant(at: Line, name: str) -> Metadata:
    """The metadata of another tenant's admin."""
    _, secret = await at.stage.scheduler.access.issue(name, "someone", "admin", Role.ADMIN)
    return (("authorization", f"Bearer {secret}"),)


async def test_line_11_a_flood_of_one_tenant_holds_up_no_other(tmp_path: Path) -> None:
    async with line(tmp_path) as at, asyncio.timeout(SOON):
        await at.create_many(FLOOD_QUEUED)
        answered = 0
        job = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"))
        batch = job_service_pb2.BatchCreateJobsRequest(
            requests=[job_service_pb2.CreateJobRequest(job=job)] * FLOOD_BATCH
        )

        async def flood() -> None:
            nonlocal answered
            while True:
                await at.stage.jobs.BatchCreateJobs(batch, metadata=at.stage.bearer())
                answered += 1

        floods = [asyncio.create_task(flood()) for _ in range(FLOOD_CALLS)]
        await settled(lambda: answered > 0, seconds=SOON)
        async with grpc.aio.insecure_channel(at.stage.address, OWN) as channel:
            for name in ("quiet", "calm"):
                who = await tenant(at, name)
                worker = BareWorker(channel, who)
                await worker.register()
                before = answered
                request = job_service_pb2.CreateJobRequest(job=job)
                mine = (await at.stage.jobs.CreateJob(request, metadata=who)).job
                # What was under way was answered meanwhile, and at most as much that came later.
                assert answered - before <= 2 * FLOOD_CALLS
                before = answered
                [lease] = await worker.lease()
                assert lease.job.job_id == mine.job_id
                assert answered - before <= 2 * FLOOD_CALLS
        assert not any(one.done() for one in floods)
        for one in floods:
            one.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
