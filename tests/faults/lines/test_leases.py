"""Lines 6, 8 and 9 of the catalogue, by a clock of the tests' own: clocks that jump, schedulers and workers away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from support.bare_worker import STARTED, BareWorker, Reports, result
from support.line import CANCELLED, QUEUED, Line, line
from support.stage import INTERVALS, Hands
from towpath.v1 import job_pb2, job_service_pb2, worker_service_pb2
from towpath.v1.worker_service_pb2 import Lease
from towpath_server import scheduler
from towpath_server.core.job import SECOND
from towpath_server.scheduler import Clock, system_clock

TTL = INTERVALS.lease_ttl / SECOND
HOUR = 3600.0
SCHEDULED, LEASED, RUNNING = job_pb2.JOB_STATE_SCHEDULED, job_pb2.JOB_STATE_LEASED, job_pb2.JOB_STATE_RUNNING
CANCELLING, SUCCEEDED = job_pb2.JOB_STATE_CANCELLING, job_pb2.JOB_STATE_SUCCEEDED
ABANDON = worker_service_pb2.DIRECTIVE_TYPE_ABANDON


async def create(at: Line, *, execution: float = 2 * HOUR, later: float = 0, now: float = 0) -> job_pb2.Job:
    """A job that may run so long, and not before `later` seconds from `now`."""
    job = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"))
    job.execution_timeout.FromMilliseconds(int(execution * 1000))
    if later:
        job.schedule_time.FromMicroseconds(int((now + later) * SECOND))
    request = job_service_pb2.CreateJobRequest(job=job)
    return (await at.stage.jobs.CreateJob(request, metadata=at.stage.bearer())).job


async def running(at: Line, worker: BareWorker, *, execution: float = 2 * HOUR) -> Lease:
    """A job that the worker runs."""
    await create(at, execution=execution)
    [lease] = await worker.lease(1)
    await worker.stream().tell(lease, started=STARTED)
    return lease


async def look(at: Line, lease: Lease) -> tuple[job_pb2.JobState.ValueType, int, int]:
    """State, number of the attempt, and losses."""
    job = await at.get(lease.job.job_id)
    return job.state, job.attempt, job.lost_count


@dataclass
class Machine:
    """The clocks of a machine, in nanoseconds; the wall clock may be set, the steady one cannot."""

    wall: int = 1_800_000_000 * 10**9
    steady: int = 77 * 10**9

    def time_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.steady

    def pass_by(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)
        self.steady += int(seconds * 1e9)

    def jump(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)


@pytest.mark.parametrize("hours", [-3, 3])
async def test_line_06_a_jump_of_the_wall_clock_cuts_no_lease_short_and_brings_no_job_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    machine = Machine()
    monkeypatch.setattr(scheduler, "time", machine)
    async with line(tmp_path, system_clock()) as at:
        worker = at.worker(slots=4)
        await worker.register()
        lease = await running(at, worker)
        later = await create(at, later=HOUR, now=machine.wall / 1e9)
        offer = await create(at)
        [offered] = await worker.lease(1)
        assert offered.job.job_id == offer.job_id
        steps = ((0, 9.0), (hours * HOUR, 0.5))
        for jump, seconds in steps:
            machine.jump(jump)
            machine.pass_by(seconds)
            await at.stage.tick()
            assert await look(at, lease) == (RUNNING, 1, 0)
            assert await look(at, offered) == (LEASED, 1, 0)
            assert (await at.get(later.job_id)).state == SCHEDULED
        # To the second as without the jump: the offer after 10 s, the lease after its time, the job at its own.
        machine.pass_by(1)
        await at.stage.tick()
        assert await look(at, offered) == (QUEUED, 0, 0)
        machine.pass_by(TTL - 11)
        await at.stage.tick()
        assert await look(at, lease) == (RUNNING, 1, 0)
        machine.pass_by(1)
        await at.stage.tick()
        assert await look(at, lease) == (QUEUED, 1, 1)
        machine.pass_by(HOUR - TTL - 2)
        await at.stage.tick()
        assert (await at.get(later.job_id)).state == SCHEDULED
        machine.pass_by(2)
        await at.stage.tick()
        assert (await at.get(later.job_id)).state == QUEUED


@pytest.mark.parametrize("hours", [-3, 3])
async def test_line_06_a_jump_while_the_scheduler_was_away_cuts_no_lease_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    machine = Machine()
    monkeypatch.setattr(scheduler, "time", machine)
    async with line(tmp_path, system_clock()) as at:
        worker = at.worker()
        await worker.register()
        lease = await running(at, worker, execution=5 * HOUR)
    machine.jump(hours * HOUR)
    async with line(tmp_path, system_clock()) as at:
        machine.pass_by(TTL - 1)
        await at.stage.tick()
        assert await look(at, lease) == (RUNNING, 1, 0)
        await again(at, worker).tell(lease, succeeded=result("done"))
        assert await look(at, lease) == (SUCCEEDED, 1, 0)


def again(at: Line, worker: BareWorker) -> Reports:
    """A stream of the worker's session on the scheduler that there is now."""
    back = at.worker()
    back.session = worker.session
    return back.stream()


async def test_line_08_after_a_long_outage_every_lease_gets_a_full_ttl(tmp_path: Path) -> None:
    hands = Hands()
    clock = Clock(lambda: hands.now, lambda: hands.steady)
    async with line(tmp_path, clock) as at:
        worker = at.worker(slots=5)
        await worker.register()
        # One whose time to run passes in the outage, one that is being cancelled, one that was only offered.
        leases = [await running(at, worker) for _ in range(2)] + [await running(at, worker, execution=60)]
        cancel = job_service_pb2.CancelJobRequest(job_id=leases[1].job.job_id)
        await at.stage.jobs.CancelJob(cancel, metadata=at.stage.bearer())
        await create(at)
        leases += await worker.lease(1)
        before = [await look(at, lease) for lease in leases]
        assert [state for state, _, _ in before] == [RUNNING, CANCELLING, RUNNING, LEASED]
    hands.move(HOUR)
    async with line(tmp_path, clock) as at:
        for seconds in (0.0, TTL - 0.001):
            hands.move(seconds)
            await at.stage.tick()
            assert [await look(at, lease) for lease in leases] == before
        hands.move(0.001)
        await at.stage.tick()
        first, second, third, fourth = [await look(at, lease) for lease in leases]
        assert first == (QUEUED, 1, 1)
        assert second == (CANCELLED, 1, 0)
        assert third[0] in (job_pb2.JOB_STATE_TIMED_OUT, QUEUED)
        assert fourth == (QUEUED, 0, 0)


async def test_line_08_a_worker_that_comes_back_within_the_ttl_goes_on(tmp_path: Path) -> None:
    hands = Hands()
    clock = Clock(lambda: hands.now, lambda: hands.steady)
    async with line(tmp_path, clock) as at:
        worker = at.worker(slots=2)
        await worker.register()
        leases = [await running(at, worker), await running(at, worker, execution=60)]
    hands.move(HOUR)
    async with line(tmp_path, clock) as at:
        hands.move(TTL - 1)
        reports = again(at, worker)
        await reports.tell(leases[1], succeeded=result("in time"))
        # From its word on the lease is renewed as ever.
        hands.move(TTL - 1)
        await at.stage.tick()
        assert await look(at, leases[0]) == (RUNNING, 1, 0)
        await reports.tell(leases[0], succeeded=result("done"))
        assert [await look(at, lease) for lease in leases] == [(SUCCEEDED, 1, 0)] * 2


@dataclass
class Asleep:
    """A worker that slept through its lease, which is over."""

    at: Line
    worker: BareWorker
    lease: Lease


@asynccontextmanager
async def asleep(folder: Path) -> AsyncIterator[Asleep]:
    hands = Hands()
    async with line(folder, Clock(lambda: hands.now, lambda: hands.steady)) as at:
        worker = at.worker()
        await worker.register()
        lease = await running(at, worker)
        hands.move(TTL)
        await at.stage.tick()
        assert await look(at, lease) == (QUEUED, 1, 1)
        yield Asleep(at, worker, lease)


async def test_line_09_a_late_result_counts_if_nobody_leased_the_job_since(tmp_path: Path) -> None:
    async with asleep(tmp_path) as night:
        # The session of before is over: its stream says so, and takes nothing.
        stale = night.worker.stream()
        await stale.say(night.lease, succeeded=result("early"))
        await stale.ordered(worker_service_pb2.DIRECTIVE_TYPE_REREGISTER)
        assert await look(night.at, night.lease) == (QUEUED, 1, 1)
        await night.worker.register([night.lease])
        reports = night.worker.stream()
        await reports.tell(night.lease, succeeded=result("late"))
        done = await night.at.get(night.lease.job.job_id)
        assert (done.state, done.attempt, done.attempt_count) == (SUCCEEDED, 1, 1)
        assert done.result.custom.value.string_value == "late"
        assert await reports.end() is grpc.StatusCode.OK
        assert reports.orders == []


async def test_line_09_a_worker_that_names_its_lease_again_takes_the_job_up(tmp_path: Path) -> None:
    async with asleep(tmp_path) as night:
        other = night.at.worker()
        await other.register()
        await night.worker.register([night.lease])
        assert await look(night.at, night.lease) == (RUNNING, 1, 0)
        assert await other.lease(wait=0) == []
        reports = night.worker.stream()
        await reports.beat([night.lease])
        await reports.tell(night.lease, progress=job_pb2.Progress(percent=60))
        await reports.tell(night.lease, succeeded=result("done"))
        assert reports.orders == []
        done = await night.at.get(night.lease.job.job_id)
        assert (done.state, done.attempt, done.attempt_count, done.lost_count) == (SUCCEEDED, 1, 1, 0)


async def test_line_09_a_late_result_is_refused_if_somebody_leased_the_job(tmp_path: Path) -> None:
    async with asleep(tmp_path) as night:
        other = night.at.worker()
        await other.register()
        [new] = await other.lease()
        assert (new.job.job_id, new.attempt) == (night.lease.job.job_id, 2)
        await night.worker.register([night.lease])
        late = night.worker.stream()
        await late.beat([night.lease])
        order = await late.ordered(ABANDON)
        assert (order.job_id, order.lease_token) == (night.lease.job.job_id, night.lease.lease_token)
        await late.tell(night.lease, succeeded=result("stale"))
        assert await look(night.at, night.lease) == (LEASED, 2, 1)
        reports = other.stream()
        await reports.tell(new, succeeded=result("true"))
        await late.tell(night.lease, succeeded=result("stale"))
        done = await night.at.get(night.lease.job.job_id)
        assert (done.state, done.attempt, done.lost_count) == (SUCCEEDED, 2, 1)
        assert done.result.custom.value.string_value == "true"
