"""Lines 4 and 5 of the catalogue: report streams broken anywhere, and two ends of a job that race."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from support import http2
from support.bare_worker import STARTED, BareWorker, about, result
from support.line import CANCELLED, SOON, Line, line
from support.proxy import RESET
from support.stage import INTERVALS, Hands, settled
from towpath.v1 import job_pb2, job_service_pb2, worker_service_pb2
from towpath.v1.worker_service_pb2 import Lease
from towpath_server.scheduler import Clock

PROGRESS = job_pb2.Progress(percent=50, phase="fit", message="half of it")
VALUE = "v" * 150


def messages(
    session: worker_service_pb2.RegisterWorkerResponse, lease: Lease
) -> list[worker_service_pb2.ReportJobsRequest]:
    who = {"worker_id": session.worker_id, "session_id": session.session_id}
    log = worker_service_pb2.LogChunk(text="said\n", stream=job_service_pb2.LOG_STREAM_STDOUT)
    return [
        worker_service_pb2.ReportJobsRequest(**who, reports=[about(lease, 1, started=STARTED)]),
        worker_service_pb2.ReportJobsRequest(reports=[about(lease, 2, progress=PROGRESS), about(lease, 3, log=log)]),
        worker_service_pb2.ReportJobsRequest(reports=[about(lease, 4, succeeded=result(VALUE))]),
    ]


async def send(address: str, data: bytes, taken: Callable[[], Awaitable[bool]], *, reset: bool) -> None:
    """Send so much, wait until it is taken in, and break the connection in order or by an RST."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    await writer.drain()
    while not await taken():  # noqa: ASYNC110 - a look at the store
        await asyncio.sleep(0.01)
    if reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
        return
    writer.write_eof()
    with suppress(ConnectionResetError):
        # Until the server, too, is done with it.
        while await reader.read(65536):
            pass
    writer.close()


async def test_line_04_a_stream_broken_at_any_byte_commits_nothing_incomplete(tmp_path: Path) -> None:
    hands = Hands()
    async with line(tmp_path, Clock(lambda: hands.now, lambda: hands.steady)) as at:
        worker = at.worker(slots=4096)
        session = await worker.register()
        opening = http2.opening("/towpath.v1.WorkerService/ReportJobs", at.stage.address, dict(at.stage.bearer()))

        def parts(lease: Lease) -> list[bytes]:
            return [opening, *map(http2.message, messages(session, lease)), http2.closing()]

        await at.stage.create()
        [whole] = await worker.lease()
        ends = [sum(map(len, parts(whole)[: count + 1])) for count in range(5)]
        # Few of the bytes before the first message, and each from there on.
        cuts = [*range(0, ends[0], 9), *range(ends[0], ends[-1])]
        leases = await at.offered(worker, len(cuts))
        gate = asyncio.Semaphore(16)

        async def broken(cut: int, lease: Lease) -> None:
            complete = sum(cut >= end for end in ends[1:4])

            async def taken() -> bool:
                # Half of them break while what is complete is still under way.
                return (cut % 4 < 2 and lease is not whole) or effects(await at.get(lease.job.job_id)) == complete

            async with gate, asyncio.timeout(SOON):
                await send(at.stage.address, b"".join(parts(lease))[:cut], taken, reset=cut % 2 == 1)

        await asyncio.gather(
            *(broken(cut, lease) for cut, lease in zip([*cuts, ends[-1]], [*leases, whole], strict=True))
        )
        await at.stage.jobs.GetJobStats(job_service_pb2.GetJobStatsRequest(), metadata=at.stage.bearer())
        await settled(lambda: not at.stage.server._calls._under_way)
        await at.stage.scheduler._state.finish()

        assert (await at.get(whole.job.job_id)).state == job_pb2.JOB_STATE_SUCCEEDED
        took = []
        for cut, lease in zip(cuts, leases, strict=True):
            job = await at.get(lease.job.job_id)
            took.append(effects(job))
            assert took[-1] <= sum(cut >= end for end in ends[1:4]), f"cut after {cut} bytes: {job}"
            assert (job.attempt, job.lost_count, job.worker_id) == (1, 0, session.worker_id)
        # The end of a stream means nothing by itself: every lease goes on, and ends with its own clock.
        open_jobs = [lease for lease, effect in zip(leases, took, strict=True) if effect < 3]
        assert set(took) == {0, 1, 2, 3}
        beating = worker.stream()
        await beating.beat(leases)
        assert await beating.end() is grpc.StatusCode.OK
        await at.stage.scheduler._state.finish()
        hands.move(INTERVALS.lease_ttl / 1e6 - 1)
        await at.stage.tick()
        assert {(await at.get(lease.job.job_id)).lost_count for lease in open_jobs} == {0}
        stats = await at.stage.jobs.GetJobStats(job_service_pb2.GetJobStatsRequest(), metadata=at.stage.bearer())
        assert {one.state for one in stats.states} == {
            job_pb2.JOB_STATE_LEASED,
            job_pb2.JOB_STATE_RUNNING,
            job_pb2.JOB_STATE_SUCCEEDED,
        }
        hands.move(2)
        await at.stage.tick()
        lost = [await at.get(lease.job.job_id) for lease in open_jobs]
        assert {(job.state, job.lost_count) for job in lost} == {(job_pb2.JOB_STATE_QUEUED, 1)}


def effects(job: job_pb2.Job) -> int:
    """How many of the messages took effect; each of them as a whole."""
    if job.state == job_pb2.JOB_STATE_SUCCEEDED:
        assert job.result.custom.value.string_value == VALUE
        return 3
    assert not job.HasField("result")
    if job.state == job_pb2.JOB_STATE_LEASED:
        assert not job.HasField("progress")
        return 0
    assert job.state == job_pb2.JOB_STATE_RUNNING
    if job.HasField("progress"):
        assert (job.progress.percent, job.progress.phase, job.progress.message) == (50, "fit", "half of it")
        return 2
    return 1


RACES = 60


@pytest.mark.parametrize("force", [False, True], ids=["asked", "forced"])
async def test_line_05_cancel_against_complete_has_one_end_that_all_are_told(tmp_path: Path, force: bool) -> None:
    chance = random.Random(5)
    async with line(tmp_path) as at:
        worker = at.worker(slots=RACES)
        await worker.register()
        leases = await at.offered(worker, RACES)
        reports = worker.stream()
        for lease in leases:
            await reports.tell(lease, started=STARTED)
        ends = [
            await race(at, worker, lease, chance, force=force, cancel_first=number % 2 == 0)
            for number, lease in enumerate(leases)
        ]
    # Asked, a worker that was done already has succeeded; forced, both ends come up, or nothing was raced.
    expected = {job_pb2.JOB_STATE_SUCCEEDED, CANCELLED} if force else {job_pb2.JOB_STATE_SUCCEEDED}
    assert set(ends) == expected


async def race(
    at: Line, worker: BareWorker, lease: Lease, chance: random.Random, *, force: bool, cancel_first: bool
) -> job_pb2.JobState.ValueType:
    """Cancel and complete a running job at once; its end, which everybody was told."""
    job_id, who = lease.job.job_id, at.stage.bearer()
    watch = at.stage.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id), metadata=who)
    seen: list[Any] = [await watch.read()]
    waiting = at.stage.jobs.WaitJob(job_service_pb2.WaitJobRequest(job_id=job_id), metadata=who)
    told = worker.stream()

    async def cancel() -> job_pb2.Job:
        await turns(0 if cancel_first else chance.randrange(8))
        request = job_service_pb2.CancelJobRequest(job_id=job_id, force=force)
        return (await at.stage.jobs.CancelJob(request, metadata=who)).job

    async def complete() -> None:
        await turns(chance.randrange(8) if cancel_first else 0)
        await told.tell(lease, succeeded=result("done"))

    cancelled, _ = await asyncio.gather(cancel(), complete())
    while (event := await watch.read()) is not grpc.aio.EOF:
        seen.append(event)
    end = await at.get(job_id)
    assert end.state in (job_pb2.JOB_STATE_SUCCEEDED, CANCELLED)
    assert end.HasField("result") == (end.state == job_pb2.JOB_STATE_SUCCEEDED)
    # The one who cancelled was told the end, or that it is being asked for; nobody was told another end.
    assert cancelled.state in (end.state, job_pb2.JOB_STATE_CANCELLING)
    assert force is False or cancelled.state == end.state
    finals = {event.job.state for event in seen} & {job_pb2.JOB_STATE_SUCCEEDED, CANCELLED}
    assert finals == {end.state} == {seen[-1].job.state}
    assert (await waiting).job.state == end.state
    if end.state == CANCELLED:
        # The worker is told that its result does not count.
        while lease.lease_token not in {order.lease_token for order in told.orders}:
            await told.hear()
    assert await told.end() is grpc.StatusCode.OK
    # Whoever asks again hears the same.
    again = worker.stream()
    await again.tell(lease, succeeded=result("done"))
    again.break_off()
    repeated = job_service_pb2.CancelJobRequest(job_id=job_id, force=True)
    assert (await at.stage.jobs.CancelJob(repeated, metadata=who)).job == end == await at.get(job_id)
    return end.state


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
