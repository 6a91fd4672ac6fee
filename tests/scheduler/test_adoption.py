"""Sessions that a scheduler takes over: what their workers hold is known before anybody is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.shared_stage import Pair, again, pair, still
from support.stage import ADA
from towpath_server.core.errors import SessionUnknown, StoreUnavailable
from towpath_server.core.events import Started
from towpath_server.core.job import Job, JobState
from towpath_server.scheduler import replicas
from towpath_server.scheduler.messages import Heartbeat, HeldLease, Registered, Report
from towpath_server.scheduler.transactions.expire import BOOT_GRACE


@pytest.fixture
async def two() -> AsyncIterator[Pair]:
    async with pair() as started:
        yield started


async def running(two: Pair) -> tuple[Registered, Job, HeldLease]:
    """A worker of the one that runs a job; the one is dead, and the other is about to notice."""
    worker = await two.one.stage.worker()
    job = await two.one.stage.submit()
    [leased] = await two.one.stage.lease(worker)
    assert leased.lease is not None
    stream = two.one.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    await stream.report([Report(1, job.job_id, Started(leased.lease.token))])
    await two.other.catch_up()
    await still(two.one)
    await two.other.look_round()
    two.hands.steady += replicas.DEAD
    return worker, job, HeldLease(job.job_id, leased.lease.token)


class Gate:
    """In front of the verb that brings what adopted sessions hold."""

    def __init__(self, side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._submit = side.state.committer.submit
        self.fails = False
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(side.state.committer, "submit", self.submit)

    async def submit(self, verb: Any, item: Any) -> Any:
        if verb is BOOT_GRACE:
            self.reached.set()
            if self.fails:
                raise StoreUnavailable
            await self.opened.wait()
        return await self._submit(verb, item)


async def test_a_worker_that_comes_while_its_session_is_taken_over_abandons_nothing(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, job, lease = await running(two)
    gate, connect = Gate(two.other, monkeypatch), two.other.stage.scheduler.workers.connect
    look = asyncio.create_task(two.other.look_round())
    await gate.reached.wait()
    with pytest.raises(SessionUnknown):
        connect(ADA, worker.worker_id, worker.session_id)
    gate.opened.set()
    await look
    connect(ADA, worker.worker_id, worker.session_id).heartbeat(Heartbeat((lease,)))
    session = two.other.state.sessions.of_worker(worker.worker_id)
    assert session is not None
    assert not session._orders
    assert await two.other.stage.state(job) is JobState.RUNNING


async def test_a_worker_that_begins_anew_while_its_session_is_taken_over_keeps_the_new_one(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, job, lease = await running(two)
    gate = Gate(two.other, monkeypatch)
    look = asyncio.create_task(two.other.look_round())
    await gate.reached.wait()
    anew = await two.other.stage.scheduler.workers.register(ADA, again(worker, held=(lease,)))
    gate.opened.set()
    await look
    session = two.other.state.sessions.of_worker(worker.worker_id)
    assert session is not None
    assert session.session_id == anew.session_id
    assert session.holds(job.job_id, lease.token)


async def test_a_session_whose_taking_over_failed_is_taken_up_later_and_ends_when_it_is_silent(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, job, _ = await running(two)
    gate = Gate(two.other, monkeypatch)
    gate.opened.set()
    gate.fails = True
    with pytest.raises(StoreUnavailable):
        await two.other.look_round()
    gate.fails = False
    for _ in range(2):
        await two.other.look_round()
    session = two.other.state.sessions.of_worker(worker.worker_id)
    assert session is not None
    assert set(session.held) == {job.job_id}
    await two.other.stage.tick(20)
    assert two.other.kept(worker).session_id == ""
    assert await two.other.stage.state(job) is JobState.QUEUED
