"""Leasing ahead: of tiny jobs only, and what cannot begin soon is given back."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fake_scheduler import FakeScheduler
from support.stage import settled
from support.worker_stage import stage
from towpath.v1 import worker_service_pb2
from towpath_worker import isolated
from towpath_worker.pace import ENOUGH, LONG, MOST_AHEAD, Pace

CANCEL = worker_service_pb2.DIRECTIVE_TYPE_CANCEL
SHUTDOWN = worker_service_pb2.RELEASE_REASON_SHUTDOWN
STOPPED = worker_service_pb2.RELEASE_REASON_STOPPED


@given(st.lists(st.floats(0, 2), max_size=40), st.integers(1, 8))
def test_one_long_job_ends_it_and_enough_short_ones_begin_it(seconds: list[float], slots: int) -> None:
    pace = Pace(slots)
    for one in seconds:
        pace.ran(one)
        assert 0 <= pace.ahead <= MOST_AHEAD
        assert pace.ahead == 0 or one <= LONG
    pace.ran(LONG * 1.01)
    for _ in range(ENOUGH - 1):
        pace.ran(0.0001)
        assert pace.ahead == 0
    pace.ran(0.0001)
    assert pace.ahead == MOST_AHEAD


async def run_tiny_jobs(scheduler: FakeScheduler) -> None:
    """Until the worker asks for more than it has slots."""
    while scheduler.polls[-1].max_jobs == 1 if scheduler.polls else True:
        for lease in [await scheduler.offer("t.add", x=1) for _ in range(ENOUGH + 2)]:
            await scheduler.outcome(lease)


async def test_a_worker_of_tiny_jobs_asks_for_a_moments_worth(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        await run_tiny_jobs(scheduler)
        leases = [await scheduler.offer("t.add", x=number) for number in range(50)]
        for lease in leases:
            assert (await scheduler.outcome(lease)).HasField("succeeded")
        assert max(poll.max_jobs for poll in scheduler.polls) > 1


async def test_behind_a_long_one_they_are_given_back(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        await run_tiny_jobs(scheduler)
        async with scheduler.at_once():
            long = await scheduler.offer("t.wait", path=str(tmp_path / "go"))
            late = [await scheduler.offer("t.add", x=1) for _ in range(3)]
        for lease in late:
            assert (await scheduler.outcome(lease)).released.reason == SHUTDOWN
            assert [one.WhichOneof("event") for one in scheduler.of(lease)] == ["released"], "it never began"
        (tmp_path / "go").touch()
        assert (await scheduler.outcome(long)).HasField("succeeded")
        for _ in range(2):
            assert (await scheduler.outcome(await scheduler.offer("t.add", x=1))).HasField("succeeded")
        assert scheduler.polls[-1].max_jobs == 1, "what runs may be long again"


async def test_one_that_waits_is_cancelled_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "PATIENCE", 3600.0)
    async with stage(tmp_path) as (scheduler, _):
        await run_tiny_jobs(scheduler)
        async with scheduler.at_once():
            long = await scheduler.offer("t.wait", path=str(tmp_path / "go"))
            waiting = await scheduler.offer("t.add", x=1)
        await scheduler.said(long, "waiting")
        await scheduler.direct(CANCEL, waiting, grace=60)
        assert (await scheduler.outcome(waiting)).released.reason == STOPPED
        assert [one.WhichOneof("event") for one in scheduler.of(waiting)] == ["released"], "it never began"
        (tmp_path / "go").touch()
        assert (await scheduler.outcome(long)).HasField("succeeded")


async def test_a_draining_worker_gives_back_what_has_not_begun(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, worker):
        await run_tiny_jobs(scheduler)
        async with scheduler.at_once():
            long = await scheduler.offer("t.wait", path=str(tmp_path / "go"))
            late = await scheduler.offer("t.add", x=1)
        await scheduler.said(long, "waiting")
        worker.stop.set()
        assert (await scheduler.outcome(late)).released.reason == SHUTDOWN
        (tmp_path / "go").touch()
        assert (await scheduler.outcome(long)).HasField("succeeded")
        assert await worker.finished() == 0


class Held:
    """Executor, outbox, publisher and job log at once: each job ends when its event is set, tiny ones at once."""

    has_log_room = True

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def run(self, lease: worker_service_pb2.Lease, *_: Any) -> worker_service_pb2.Succeeded:
        self.begun.append(lease.job.job_id)
        if lease.job.job_id != "tiny":
            await self.may_end[lease.job.job_id].wait()
        return worker_service_pb2.Succeeded()

    def add(self, *_: Any) -> None: ...

    def holds(self, *_: Any) -> bool:
        return False

    def drop(self, *_: Any) -> None: ...

    def started(self, *_: Any) -> None: ...

    def ended(self, *_: Any) -> None: ...

    def jobs(self) -> isolated.Isolated:
        """Of a worker with one slot."""
        fake: Any = self
        return isolated.Isolated(fake, 1, fake, fake, lambda key: None, lambda: None, fake)


def lease(name: str, token: int = 0) -> worker_service_pb2.Lease:
    made = worker_service_pb2.Lease(lease_token=f"{name}-{token}")
    made.job.job_id, made.job.custom.type = name, "t"
    return made


async def test_nothing_more_is_leased_ahead_while_a_long_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    jobs = held.jobs()
    for number in range(ENOUGH):
        jobs.begin(lease("tiny", number), "w")
        await jobs.emptied()
    assert jobs.room > 1
    monkeypatch.setattr(isolated, "PATIENCE", 0.0)
    jobs.begin(lease("long"), "w")
    jobs.begin(lease("late"), "w")
    await settled(lambda: not jobs.has_line)
    assert (held.begun[-1], jobs.room) == ("long", 0)
    held.may_end["long"].set()
    await jobs.emptied()


async def test_what_waits_in_the_line_counts_as_not_yet_over() -> None:
    held = Held()
    jobs = held.jobs()
    jobs.begin(lease("first"), "w")
    jobs.begin(lease("second"), "w")
    await settled(lambda: held.begun == ["first"])
    emptied = asyncio.create_task(jobs.emptied())
    await asyncio.sleep(0)
    held.may_end["first"].set()
    await settled(lambda: held.begun == ["first", "second"])
    for _ in range(10):
        await asyncio.sleep(0)
        assert not emptied.done()
    held.may_end["second"].set()
    await emptied
    assert len(jobs) == 0
