"""Lines 13 and 14 of the catalogue with the real program: how a scheduler ends, and where a second does not start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support import http2, processes
from support.bare_worker import STARTED, BareWorker, result
from support.line import SOON
from support.rpc_stage import reason_of
from towpath import Client
from towpath.v1 import job_pb2, job_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.worker_service_pb2 import LeaseJobsResponse
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub
from towpath_server import command
from towpath_server.core.job import JobState
from towpath_server.rpc.convert import ids
from towpath_server.store.sqlite import SqliteStore

GRACE = 3.0
# A busy machine is forgiven this much: an end that waits for anybody would come much later.
FORGIVEN = 15.0


class Beyond:
    """All that a client can ask of a running scheduler."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self.channel = channel
        self.who = (("authorization", f"Bearer {token}"),)
        self.jobs: Any = JobServiceStub(channel)
        self.workers: Any = WorkerServiceStub(channel)

    async def create(self, request_id: str = "") -> job_pb2.Job:
        job = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"))
        request = job_service_pb2.CreateJobRequest(job=job, request_id=request_id)
        made: job_pb2.Job = (await self.jobs.CreateJob(request, metadata=self.who)).job
        return made


@asynccontextmanager
async def beyond(at: processes.Scheduler) -> AsyncIterator[Beyond]:
    async with grpc.aio.insecure_channel(at.address) as channel:
        yield Beyond(channel, at.token)


def code_of(error: object) -> grpc.StatusCode:
    assert isinstance(error, grpc.aio.AioRpcError), error
    return error.code()


def is_draining(error: object) -> bool:
    assert isinstance(error, grpc.aio.AioRpcError), error
    return (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def exit_code(process: processes.Process) -> int:
    return await asyncio.wait_for(asyncio.to_thread(process.wait), GRACE + FORGIVEN)


async def test_line_13_sigterm_drains_and_ends_within_the_grace(tmp_path: Path) -> None:
    with processes.scheduler(tmp_path, "--drain-grace", str(GRACE)) as at, ExitStack() as stack:
        async with beyond(at) as there:
            stub: Any = health_pb2_grpc.HealthStub(there.channel)
            health = stub.Watch(health_pb2.HealthCheckRequest())
            assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
            running, waiting = BareWorker(there.channel, there.who), BareWorker(there.channel, there.who, "other")
            await running.register()
            await waiting.register()
            job = await there.create()
            [lease] = await running.lease()
            reports = running.stream()
            await reports.tell(lease, started=STARTED)
            polls = [waiting.poll(), running.poll()]
            await asyncio.to_thread(stack.enter_context, stuck_watcher(at))
            # Work in flight: results that are being told, and creates that are being answered.
            sequence = await reports.say(lease, succeeded=result("done"))
            creates = [asyncio.create_task(there.create(f"mine-{number}")) for number in range(100)]
            await creates[0]
            at.process.send_signal(signal.SIGTERM)
            assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            for answer in await asyncio.gather(*polls, return_exceptions=True):
                # One of the creates may have come first, and was handed out.
                assert answer.leases if isinstance(answer, LeaseJobsResponse) else is_draining(answer)
            await reports.acked(sequence)
            answers = await asyncio.gather(*creates, return_exceptions=True)
            refusals = [answer for answer in answers if not isinstance(answer, job_pb2.Job)]
            assert {code_of(refusal) for refusal in refusals} <= {grpc.StatusCode.UNAVAILABLE}
            assert await exit_code(at.process) == 0
        acknowledged = {job.job_id, *(answer.job_id for answer in answers if isinstance(answer, job_pb2.Job))}
    with closing(SqliteStore(tmp_path / "towpath.db")) as store:
        stored = store.load([ids.read(ids.JOB, job_id) for job_id in acknowledged])
    assert len(stored) == len(acknowledged) > 1
    assert stored[ids.read(ids.JOB, job.job_id)].state is JobState.SUCCEEDED


@contextmanager
def stuck_watcher(at: processes.Scheduler) -> Iterator[None]:
    """Somebody who watches all jobs and takes in no byte of what is told."""
    host, _, port = at.address.rpartition(":")
    metadata = {"authorization": f"Bearer {at.token}"}
    with socket.create_connection((host, int(port)), timeout=SOON) as one, one.makefile("rb") as answer:
        one.sendall(http2.opening("/towpath.v1.JobService/WatchJobs", at.address, metadata, window=0))
        one.sendall(http2.message(job_service_pb2.WatchJobsRequest()) + http2.closing())
        # The answer's headers come, for no window bounds them: the watch stands.
        while http2.read_frame(answer) != http2.HEADERS:
            pass
        yield


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Scheduler]:
    """A scheduler that runs, with its store in towpath.db beside its settings."""
    with processes.scheduler(tmp_path_factory.mktemp("first")) as at:
        yield at


@dataclass
class Second:
    """Starts another scheduler, here in this process, that is to be refused."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def refused(self, listen: str, file: Path) -> str:
        """What it says why."""
        settings = self.folder / "config"
        words = ["--listen", listen, "--store", f"sqlite:///{file}", "--config-dir", str(settings)]
        self.patch.setattr(sys, "argv", ["towpath-server", *words])
        with pytest.raises(SystemExit) as ended:
            command.main()
        said = self.capture.readouterr()
        assert (ended.value.code, said.out) == (1, "")
        # It leaves nothing behind: no token that nobody could use.
        assert not settings.exists()
        return said.err


@pytest.fixture
def second(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Second]:
    """Another one; what its program sets for the whole process is set back."""
    interval = sys.getswitchinterval()
    yield Second(tmp_path, capsys, monkeypatch)
    structlog.reset_defaults()
    sys.setswitchinterval(interval)


def file_of(at: processes.Scheduler) -> Path:
    return at.config.with_name("towpath.db")


def test_line_14_a_second_scheduler_on_the_same_port_does_not_start(first: processes.Scheduler, second: Second) -> None:
    said = second.refused(first.address, second.folder / "other.db")
    assert f"cannot listen on {first.address}" in said
    assert "Is another scheduler running there?" in said
    with Client(first.address, first.token) as client:
        assert client.stats().by_state is not None


def by_itself(file: Path, folder: Path) -> Path:
    return file


def by_symlink(file: Path, folder: Path) -> Path:
    (folder / "symlink.db").symlink_to(file)
    return folder / "symlink.db"


def by_folder(file: Path, folder: Path) -> Path:
    (folder / "folder").symlink_to(file.parent, target_is_directory=True)
    return folder / "folder" / file.name


def by_hardlink(file: Path, folder: Path) -> Path:
    os.link(file, folder / "hardlink.db")
    return folder / "hardlink.db"


@pytest.mark.parametrize("named", [by_itself, by_symlink, by_folder, by_hardlink])
def test_line_14_a_second_scheduler_on_the_same_file_does_not_start(
    first: processes.Scheduler, second: Second, named: Callable[[Path, Path], Path]
) -> None:
    with Client(first.address, first.token) as client:
        job = client.submit("echo")
        name = named(file_of(first), second.folder)
        said = second.refused("127.0.0.1:0", name)
        if named is by_hardlink:
            assert "hard links to one file. Remove the others, or choose another file." in said
            name.unlink()
        else:
            assert f"in use by another scheduler (process {first.process.pid}). Stop that one" in said
        assert client.job(job.job_id).refresh().job_id == job.job_id


def test_line_14_after_a_kill_the_next_one_starts_at_once(tmp_path: Path) -> None:
    with processes.scheduler(tmp_path) as at, Client(at.address, at.token) as client:
        job = client.submit("echo")
        at.process.kill()
        at.process.wait()
    with processes.scheduler(tmp_path, "--listen", at.address) as again, Client(again.address, again.token) as client:
        assert client.job(job.job_id).refresh().job_id == job.job_id
