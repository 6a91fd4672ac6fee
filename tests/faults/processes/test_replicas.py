"""Schedulers that share a PostgreSQL: one is killed or stopped at the worst moments, and the others go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
import pytest

from support import kill_loop, processes
from support.killing import until
from support.postgres import Postgres, private
from support.processes import Scheduler
from towpath.v1 import job_pb2, job_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub

PATIENCE = 60.0
# The others are held up for less than 2 s by what one holds that stands still; the rest is for a machine that is busy.
SOON = 10.0
CYCLES = 6
JOBS = 90


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that keeps what it acknowledges."""
    own = private()
    yield own
    own.remove()


@dataclass
class Caller:
    """Creates one job after the other at one scheduler, and tries nothing twice by itself."""

    at: Scheduler
    token: str
    name: str
    kept: dict[str, str] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.at.address)
        self.jobs = JobServiceStub(self.channel)
        self.metadata = (("authorization", f"Bearer {self.token}"),)

    def create(self, request_id: str, timeout: float = PATIENCE) -> str:
        """The id of the job of this request."""
        answer = self.jobs.CreateJob(wanted(request_id), metadata=self.metadata, timeout=timeout)
        return answer.job.job_id

    def exists(self, job_id: str) -> bool:
        """Whether there is such a job, as this scheduler sees it."""
        request = job_service_pb2.GetJobRequest(job_id=job_id)
        return self.jobs.GetJob(request, metadata=self.metadata, timeout=PATIENCE).job.job_id == job_id

    def until_it_stands_still(self) -> tuple[str, grpc.Future[job_service_pb2.CreateJobResponse]]:
        """Create jobs until nobody answers; the request under way then."""
        while True:
            self.number += 1
            request_id = f"{self.name} {self.number}"
            call = self.jobs.CreateJob.future(wanted(request_id), metadata=self.metadata, timeout=PATIENCE)
            assert until(lambda call=call: call.done() or not runs(self.at.process), PATIENCE)  # type: ignore[misc]
            if not call.done() or call.exception() is not None:
                return request_id, call
            self.kept[request_id] = call.result().job.job_id


def wanted(request_id: str) -> job_service_pb2.CreateJobRequest:
    job = job_pb2.Job(custom=job_pb2.CustomSpec(type="nobody.takes.it"))
    return job_service_pb2.CreateJobRequest(job=job, request_id=request_id)


def runs(process: processes.Process) -> bool:
    """Whether it is neither stopped nor dead."""
    return process.poll() is None and psutil.Process(process.pid).status() != psutil.STATUS_STOPPED


@contextmanager
def replicas(server: Postgres, folder: Path, *points: str) -> Iterator[list[Caller]]:
    """A scheduler for each of `points`, its failpoints, and a caller of each."""
    url = server.url(server.database(), tcp=True)
    with ExitStack() as stack:
        begun = [stack.enter_context(processes.replica(folder, url, points=one)) for one in points]
        callers = [Caller(at, begun[0].token, f"at {number}") for number, at in enumerate(begun)]
        for caller in callers:
            stack.enter_context(caller.channel)
        yield callers


def test_line_18_who_stops_at_any_point_holds_up_the_others_for_a_moment_only(server: Postgres, tmp_path: Path) -> None:
    points = ["commit.before=stop:20", "commit.after=stop:40", "answer.before=stop:60", "answer.after=stop:80"]
    with replicas(server, tmp_path, "", ",".join(points)) as (other, stopped):
        for _ in points:
            request_id, call = stopped.until_it_stands_still()
            assert not runs(stopped.at.process)
            # The same request, while whoever may hold its job stands still.
            job_id = other.create(request_id, SOON)
            assert all(map(other.exists, stopped.kept.values()))
            assert not runs(stopped.at.process)
            os.kill(stopped.at.process.pid, signal.SIGCONT)
            # What it was at comes to the same end, and it goes on by itself.
            assert call.result().job.job_id == job_id
            assert stopped.create(request_id) == job_id
            stopped.kept[request_id] = job_id


def test_what_was_acknowledged_by_one_that_dies_is_there_and_what_was_not_is_there_once(
    server: Postgres, tmp_path: Path
) -> None:
    points = ["commit.before=kill:20", "commit.after=kill:20"]
    with replicas(server, tmp_path, "", *points) as (other, *dying):
        for caller in dying:
            request_id, call = caller.until_it_stands_still()
            error = call.exception()
            assert isinstance(error, grpc.RpcError)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert caller.at.process.wait(PATIENCE) == -signal.SIGKILL
            assert all(map(other.exists, caller.kept.values()))
            for known, job_id in caller.kept.items():
                assert other.create(known) == job_id
            assert other.create(request_id, SOON) == other.create(request_id, SOON)


@pytest.mark.timeout(300)
def test_kills_of_three_schedulers_and_their_database_lose_nothing_and_let_nothing_count_twice(tmp_path: Path) -> None:
    report = kill_loop.run(
        tmp_path, seed=1, cycles=CYCLES, jobs=JOBS, longest_pause=0.2, batch=20, freezes=0.1, replicas=3
    )
    print(report, f"{report.seconds:.0f} s")
    assert not report.broken, "\n".join([*report.broken[:20], f"Evidence: {report.folder}"])
    assert report.acknowledged >= JOBS
