"""The scheduler dies at each of its failpoints: in a submit, in a claim, in an outcome, at its start.

After each death a new scheduler goes on with the same store, and it is said line by line what must hold. The worker is
nothing but the protocol, so that no other process decides when anything happens.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest

from support import processes, stored
from support.bare_worker import STARTED, BareWorker, Reports, result
from support.history import Stored
from support.processes import Process
from towpath.v1 import job_pb2, job_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.worker_service_pb2 import Lease
from towpath_server.failpoints import POINTS, VARIABLE

Job = tuple[str, int, int, int]  # state, attempt, attempt_count, lost_count

NOTHING_YET: Job = ("QUEUED", 0, 0, 0)
OFFERED: Job = ("LEASED", 1, 0, 0)
RUNNING: Job = ("RUNNING", 1, 0, 0)
SUCCEEDED: Job = ("SUCCEEDED", 1, 1, 0)

# What is on disk after a death in a submit, in a claim, in an outcome.
DEATHS: dict[str, tuple[Job | None, Job, Job]] = {
    "commit.before": (None, NOTHING_YET, RUNNING),
    "commit.after": (NOTHING_YET, OFFERED, SUCCEEDED),
    "answer.before": (NOTHING_YET, OFFERED, SUCCEEDED),
    "answer.after": (NOTHING_YET, OFFERED, SUCCEEDED),
}
AT_THE_START = {"start.recovered"}


@dataclass(frozen=True)
class Life:
    """A scheduler from its start to its death, and one caller of it."""

    process: Process
    jobs: JobServiceStub
    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...]
    fuse: Path

    async def submit(self) -> str:
        """Submit the job, the same each time; its id."""
        job = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"))
        request = job_service_pb2.CreateJobRequest(job=job, request_id="the same")
        call: grpc.aio.UnaryUnaryCall[object, job_service_pb2.CreateJobResponse]
        call = self.jobs.CreateJob(request, metadata=self.metadata)  # type: ignore[assignment]
        return (await call).job.job_id

    def worker(self, known: BareWorker | None = None) -> BareWorker:
        """A worker, or the one of before."""
        worker = BareWorker(self.channel, self.metadata)
        if known is not None:
            worker.session = known.session
        return worker

    @contextmanager
    def dies(self) -> Iterator[None]:
        """The scheduler dies in here, and the call under way is answered by nobody.

        What it does by itself at its start is done: a call was answered. The next commit is the one of this call.
        """
        self.fuse.touch()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            yield
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert self.process.wait(10) == -signal.SIGKILL


@dataclass(frozen=True)
class Lives:
    """One store, and one scheduler after the other on it."""

    folder: Path

    @asynccontextmanager
    async def life(self, point: str = "", *, at_once: bool = False) -> AsyncIterator[Life]:
        """A scheduler; it dies at that point, at once or in the first call that is made inside `dies`."""
        fuse = self.folder / "fuse"
        fuse.unlink(missing_ok=True)
        words = processes.scheduler_words(self.folder, "--listen", "127.0.0.1:0")
        armed = {VARIABLE: f"{point}=kill" + ("" if at_once else f"@{fuse}")} if point else {}
        with processes.start(words, self.folder, processes.clean() | armed) as (process, address):
            token = (self.folder / "config" / "token").read_text(encoding="utf-8").strip()
            async with grpc.aio.insecure_channel(address) as channel:
                bearer = (("authorization", f"Bearer {token}"),)
                yield Life(process, JobServiceStub(channel), channel, bearer, fuse)
                process.kill()

    def on_disk(self) -> Job | None:
        """The one job there is, if it is there."""
        jobs: list[Stored] = stored.on_disk(self.folder / "towpath.db")
        assert len(jobs) <= 1
        return (jobs[0].state, jobs[0].attempt, jobs[0].attempt_count, jobs[0].lost_count) if jobs else None


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has had its first start."""
    folder = tmp_path_factory.mktemp("template")
    with processes.scheduler(folder):
        pass
    return folder


@pytest.fixture
def lives(template: Path, tmp_path: Path) -> Lives:
    return Lives(shutil.copytree(template, tmp_path / "scheduler"))


async def lease(worker: BareWorker) -> Lease:
    [one] = await worker.lease()
    return one


async def told(reports: Reports, lease: Lease) -> None:
    """Report the result, and hear that it is on disk."""
    await reports.tell(lease, succeeded=result("done"))


def test_every_point_has_a_scenario() -> None:
    assert DEATHS.keys() | AT_THE_START == POINTS.keys()


@pytest.mark.parametrize("point", DEATHS)
async def test_a_death_loses_nothing_that_was_promised(lives: Lives, point: str) -> None:
    submitted, claimed, ended = DEATHS[point]

    # Nobody has acknowledged the job: it may be there or not.
    async with lives.life(point) as life:
        await life.worker().register()
        with life.dies():
            await life.submit()
    assert lives.on_disk() == submitted

    async with lives.life(point) as life:
        worker = life.worker()
        await worker.register()
        # The same request_id gives one job, whether it was there or not.
        job_id = await life.submit()
        with life.dies():
            await worker.lease()
    assert lives.on_disk() == claimed

    async with lives.life(point) as life:
        worker = life.worker(worker)
        # It does not name the lease whose offer was lost with the answer: that costs no attempt.
        await worker.register()
        held = await lease(worker)
        assert (held.job.job_id, held.attempt) == (job_id, 1)
        reports = worker.stream()
        await reports.tell(held, started=STARTED)
        with life.dies():
            try:
                await told(reports, held)
            except AssertionError:
                # The stream ended before the ack.
                raise await broken(reports) from None
    assert lives.on_disk() == ended

    # What was not acked is told again, and counts once.
    async with lives.life() as life:
        worker = life.worker(worker)
        await worker.register([held])
        await told(worker.stream(), held)
        assert await life.submit() == job_id
    assert lives.on_disk() == SUCCEEDED


async def broken(reports: Reports) -> grpc.aio.AioRpcError:
    """How the stream ended."""
    return grpc.aio.AioRpcError(await reports.call.code(), grpc.aio.Metadata(), grpc.aio.Metadata())


async def test_a_death_at_the_start_costs_no_running_job_its_lease(lives: Lives) -> None:
    async with lives.life() as life:
        worker = life.worker()
        await worker.register()
        job_id = await life.submit()
        held = await lease(worker)
        await worker.stream().tell(held, started=STARTED)
    with pytest.raises(AssertionError, match="ended before it was ready"):
        async with lives.life("start.recovered", at_once=True):
            pass
    assert lives.on_disk() == RUNNING
    async with lives.life() as life:
        # Not even a new registration is needed: the session of before lives on.
        worker = life.worker(worker)
        await told(worker.stream(), held)
        assert await life.submit() == job_id
    assert lives.on_disk() == SUCCEEDED
