"""A worker that reports whatever it likes: on jobs of its own, of others, and of nobody, in any order.

Beside it works another user's worker, who must not notice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf import struct_pb2

from support.bare_worker import BareWorker
from support.fuzzing.siege import ALLOWED, Metadata
from support.fuzzing.wire import mutated
from support.who_may import BROKEN_OFF
from towpath.v1 import job_pb2, job_service_pb2, worker_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.worker_service_pb2 import Heartbeat, HeldLease, Lease, Report, ReportJobsRequest

REPORT = "/towpath.v1.WorkerService/ReportJobs"
FORGED = "forged"
STEPS = 14
SEQUENCES = (0, -1, 1, 2, 3, 50, 2**31 - 1, -(2**31))
OFFSETS = (0, 1, -1, 10**6, 2**31, 2**63 - 1, -(2**63))
FINAL = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


@dataclass
class Party:
    """A user with jobs that its own worker has leased."""

    channel: grpc.aio.Channel
    me: Metadata
    worker: BareWorker = field(init=False)
    leases: list[Lease] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.worker = BareWorker(self.channel, self.me, slots=4)
        self.jobs: Any = JobServiceStub(self.channel)

    async def begin(self) -> None:
        """Submit four jobs and lease them."""
        create = job_service_pb2.CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="echo")))
        for _ in range(4):
            await self.jobs.CreateJob(create, metadata=self.me)
        await self.worker.register()
        self.leases = await self.worker.lease(4)

    async def states(self) -> list[job_pb2.Job]:
        """Its jobs as they stand."""
        gets = (job_service_pb2.GetJobRequest(job_id=lease.job.job_id) for lease in self.leases)
        return [(await self.jobs.GetJob(get, metadata=self.me)).job for get in gets]

    async def logs(self) -> str:
        """What stands in the logs of its jobs."""
        written = ""
        for lease in self.leases:
            request = job_service_pb2.StreamJobLogsRequest(job_id=lease.job.job_id)
            async for piece in self.jobs.StreamJobLogs(request, metadata=self.me):
                written += piece.text
        return written


@dataclass
class Thief:
    """Plays one seed, and keeps what must not have happened in `broken`."""

    own: Party
    other: Party
    rng: random.Random
    sequence: int = 0
    broken: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    async def play(self) -> None:
        """Some streams, one after the other or two at once."""
        calls = [self._open()]
        for _ in range(STEPS):
            if self.rng.random() < 0.15:
                calls.append(self._open())
            await self._write(self.rng.choice(calls[-2:]), self._bytes())
        for call in calls:
            await self._end(call)

    def _open(self) -> Any:
        return self.own.channel.stream_stream(REPORT)(metadata=self.own.me, timeout=30)

    async def _write(self, call: Any, raw: bytes) -> None:
        with suppress(grpc.aio.AioRpcError, grpc.aio.InternalError):
            if not call.done():
                await call.write(raw)

    async def _end(self, call: Any) -> None:
        with suppress(grpc.aio.AioRpcError, grpc.aio.InternalError):
            if not call.done():
                await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        code, details = await call.code(), await call.details()
        if code not in ALLOWED and details != BROKEN_OFF:
            self.broken.append(f"{code.name}: {details}")

    def _bytes(self) -> bytes:
        session = self.own.worker.session
        others = self.other.worker.session
        worker_id = self.rng.choice((session.worker_id, session.worker_id, others.worker_id, "", "wkr_x"))
        session_id = self.rng.choice((session.session_id,) * 3 + (others.session_id, ""))
        if self.rng.random() < 0.6:
            worker_id, session_id = session.worker_id, session.session_id
        reports = [self._report() for _ in range(self.rng.choice((1, 1, 2, 5)))]
        message = ReportJobsRequest(worker_id=worker_id, session_id=session_id, reports=reports)
        self.told.append(str(message))
        raw = message.SerializeToString()
        return mutated(raw, self.rng) if self.rng.random() < 0.1 else raw

    def _report(self) -> Report:
        self.sequence += 1
        rng = self.rng
        lease, stranger = rng.choice(self.own.leases), rng.choice(self.other.leases)
        job_id, token = rng.choice(
            (
                *((lease.job.job_id, lease.lease_token),) * 3,
                # It may come to know ids, but never another's lease: that is 128 random bits, and proves the right.
                (stranger.job.job_id, lease.lease_token),
                (stranger.job.job_id, ""),
                (stranger.job.job_id, FORGED),
                ("job_0000000000001", FORGED),
            )
        )
        report = Report(sequence=self.sequence, job_id=job_id, lease_token=token)
        if rng.random() < 0.25:
            report.sequence = rng.choice(SEQUENCES)
        rng.choice(EVENTS)(report, rng, [*self.own.leases, *self.other.leases])
        return report


def _log(report: Any, rng: random.Random, leases: Iterable[Lease]) -> None:
    report.log.text, report.log.offset = FORGED * rng.choice((1, 1_000)), rng.choice(OFFSETS)
    report.log.stream = rng.choice((0, 1, 3, 99))


def _progress(report: Report, rng: random.Random, leases: Iterable[Lease]) -> None:
    report.progress.percent = rng.choice((0.0, 50.0, -1.0, 1e308, float("nan"), float("inf")))
    report.progress.message = FORGED
    report.progress.eta.seconds = rng.choice((0, -1, 2**62))


def _succeeded(report: Report, rng: random.Random, leases: Iterable[Lease]) -> None:
    report.succeeded.result.custom.value.string_value = FORGED


def _failed(report: Any, rng: random.Random, leases: Iterable[Lease]) -> None:
    report.failed.failure.message, report.failed.failure.retryable = FORGED, False
    report.failed.failure.cause = rng.choice((0, 1, 2, 3, 99, -1))


def _released(report: Any, rng: random.Random, leases: Iterable[Lease]) -> None:
    report.released.reason = rng.choice((0, 1, 2, 3, 99))


def _heartbeat(report: Report, rng: random.Random, leases: Iterable[Lease]) -> None:
    named = [HeldLease(job_id=one.job.job_id, lease_token=rng.choice((one.lease_token, FORGED))) for one in leases]
    report.heartbeat.CopyFrom(Heartbeat(held_leases=rng.sample(named, rng.randrange(len(named) + 1))))
    report.sequence = rng.choice((0, 0, report.sequence))


def _started(report: Report, rng: random.Random, leases: Iterable[Lease]) -> None:
    report.started.start_time.seconds = rng.choice((0, 1_700_000_000, -(2**62), 2**62))


def _nothing(report: Report, rng: random.Random, leases: Iterable[Lease]) -> None:
    """No event at all."""


EVENTS: tuple[Callable[[Report, random.Random, Iterable[Lease]], None], ...] = (
    *(_log, _progress, _succeeded, _failed, _released, _heartbeat, _started, _started, _log, _nothing),
)


async def steal(channel: grpc.aio.Channel, thief: Metadata, victim: Metadata, seed: int) -> Thief:
    """Play a seed, and let the victim end its jobs in peace."""
    own, other = Party(channel, thief), Party(channel, victim)
    await own.begin()
    await other.begin()
    played = Thief(own, other, random.Random(seed))
    await played.play()
    over = [job for job in await own.states() if job.state in FINAL]
    await played.play()
    now = {job.job_id: job for job in await own.states()}
    if any(now[job.job_id] != job for job in over):
        played.broken.append("a job that was final has changed")
    with suppress(AssertionError):
        stream = other.worker.stream()
        for lease in other.leases:
            honest = job_pb2.JobResult(custom=job_pb2.CustomResult(value=struct_pb2.Value(string_value="honest")))
            await stream.tell(lease, succeeded=worker_service_pb2.Succeeded(result=honest))
        await stream.end()
    for job in await other.states():
        if job.result.custom.value.string_value != "honest" or job.attempt_count != 1 or FORGED in str(job):
            played.broken.append(f"another's job is not as its worker left it: {job}")
    if FORGED in await other.logs():
        played.broken.append("it wrote into another's log")
    return played
