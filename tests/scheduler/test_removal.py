"""Removing a worker: what it held is lost to others, nothing is left of it, and its credential is void."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from support.shared_stage import again, pair
from support.stage import ADA, BOB, EVE, Stage
from towpath_server.core.errors import SessionUnknown, StoreUnavailable, Unauthenticated, WorkerNotFound
from towpath_server.core.events import Started
from towpath_server.core.ids import show
from towpath_server.core.job import JobState
from towpath_server.core.records import ModelRecord, Principal, Role, Worker
from towpath_server.scheduler.messages import DirectiveType, Report
from towpath_server.scheduler.transactions.removal import REMOVE
from towpath_server.store.base import Recorded

OPERATOR = Principal(token_id=9, tenant="acme", user="oz", role=Role.OPERATOR, origin="203.0.113.7:51234")
MODEL = ModelRecord(
    model_id=5,
    worker_id=0,
    tenant="",
    user="",
    name="m",
    version=1,
    model_type="",
    task_type=0,
    create_time=1,
)


async def credential(s: Stage, role: Role = Role.WORKER) -> tuple[Principal, str]:
    """A token of ada's for a worker."""
    _, secret = await s.scheduler.access.issue("acme", "ada", "box", role)
    return s.scheduler.access.authenticate(secret), secret


async def test_what_a_removed_worker_ran_goes_to_others_and_nothing_is_left_of_it(s: Stage) -> None:
    who, secret = await credential(s)
    worker = await s.worker(who=who)
    await s.scheduler.workers.sync_models(who, worker.worker_id, worker.session_id, [MODEL])
    job = await s.submit()
    [leased] = await s.lease(worker, who=who)
    assert leased.lease is not None
    stream = s.scheduler.workers.connect(who, worker.worker_id, worker.session_id)
    await stream.report([Report(1, job.job_id, Started(leased.lease.token))])
    s.hands.move(1)
    assert await s.scheduler.fleet.remove(OPERATOR, worker.worker_id) == who.token_id
    assert await s.state(job) is JobState.QUEUED
    assert (await s.get(job)).lost_count == 1
    assert s.scheduler.fleet.workers(ADA, include_offline=True) == []
    assert s.scheduler.catalogue.find(ADA) == []
    store = s.scheduler._state.store
    assert (store.records(Worker), store.records(ModelRecord)) == ([], [])
    with pytest.raises(Unauthenticated):
        s.scheduler.access.authenticate(secret)
    assert [order.type for order in await stream.orders()][-1] is DirectiveType.REREGISTER
    with pytest.raises(SessionUnknown):
        await s.lease(worker, who=who)
    other = await s.worker()
    assert [one.job_id for one in await s.lease(other)] == [job.job_id]
    [told] = store.audit(Recorded(action="worker.removed"), 9)
    assert (told.user, told.origin, told.subject) == ("oz", "203.0.113.7:51234", show("wkr", worker.worker_id))
    assert told.details == {"name": "box", "user": "ada", "revoked": show("tok", who.token_id)}
    # Its credential is found by its own id too.
    [revoked] = store.audit(Recorded(action="token.revoked"), 9)
    assert (revoked.user, revoked.origin, revoked.subject) == ("oz", told.origin, show("tok", who.token_id))
    assert revoked.details == {"name": "box", "of": "ada", "worker": told.subject}


@pytest.mark.parametrize("role", [Role.WORKER, Role.ADMIN])
async def test_a_token_that_others_use_too_goes_on(s: Stage, role: Role) -> None:
    who, secret = await credential(s, role)
    workers = [await s.worker(who=who) for _ in range(2)]
    poll = s.poll(workers[0], who=who)
    await s.parked(1)
    assert await s.scheduler.fleet.remove(ADA, workers[0].worker_id) is None
    assert await poll == []
    assert s.scheduler.access.authenticate(secret).token_id == who.token_id
    assert s.scheduler._state.store.audit(Recorded(action="token.revoked"), 9) == []
    # The second is the last that came with it.
    revoked = await s.scheduler.fleet.remove(ADA, workers[1].worker_id)
    assert revoked == (who.token_id if role is Role.WORKER else None)


async def test_a_removed_worker_comes_back_as_another(s: Stage) -> None:
    worker = await s.worker()
    await s.scheduler.fleet.remove(ADA, worker.worker_id)
    back = await s.scheduler.workers.register(ADA, again(worker))
    assert back.worker_id != worker.worker_id


async def test_nobody_removes_what_is_another_s(s: Stage) -> None:
    worker = await s.worker()
    poll = s.poll(worker)
    await s.parked(1)
    for who in (EVE, BOB, replace(OPERATOR, tenant="evil")):
        with pytest.raises(WorkerNotFound) as foreign:
            await s.scheduler.fleet.remove(who, worker.worker_id)
        with pytest.raises(WorkerNotFound) as never:
            await s.scheduler.fleet.remove(who, 12345)
        assert str(foreign.value).replace(show("wkr", worker.worker_id), show("wkr", 12345)) == str(never.value)
    assert not poll.done()
    poll.cancel()


async def test_a_worker_that_the_store_could_not_forget_ends_like_one_that_is_silent(
    s: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await s.worker()
    job = await s.submit()
    await s.lease(worker)
    submit = s.scheduler._state.committer.submit

    async def failing(verb: object, item: object) -> object:
        if verb is REMOVE:
            raise StoreUnavailable
        return await submit(verb, item)  # type: ignore[arg-type]

    monkeypatch.setattr(s.scheduler._state.committer, "submit", failing)
    with pytest.raises(StoreUnavailable):
        await s.scheduler.fleet.remove(ADA, worker.worker_id)
    await s.tick()
    assert await s.state(job) is JobState.QUEUED
    assert (await s.scheduler.workers.register(ADA, again(worker))).worker_id == worker.worker_id


async def test_a_worker_is_removed_by_another_scheduler_than_the_one_that_it_lives_on() -> None:
    async with pair() as two:
        worker = await two.one.stage.worker()
        await two.one.stage.scheduler.workers.sync_models(ADA, worker.worker_id, worker.session_id, [MODEL])
        job = await two.one.stage.submit()
        await two.one.stage.lease(worker)
        poll = two.one.stage.poll(worker)
        await two.one.stage.parked(1)
        await two.other.catch_up()
        await two.other.stage.scheduler.fleet.remove(ADA, worker.worker_id)
        assert await asyncio.wait_for(poll, 10) == []
        await two.one.catch_up()
        assert two.one.state.sessions.of_worker(worker.worker_id) is None
        assert two.one.stage.scheduler.fleet.workers(ADA, include_offline=True) == []
        assert two.one.stage.scheduler.catalogue.find(ADA) == []
        assert await two.one.stage.state(job) is JobState.QUEUED


async def test_a_worker_hears_of_its_removal_once_it_cannot_come_back_any_more(
    s: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    who, secret = await credential(s)
    worker = await s.worker(who=who)
    stream = s.scheduler.workers.connect(who, worker.worker_id, worker.session_id)
    hears = asyncio.ensure_future(stream.orders())
    submit = s.scheduler._state.committer.submit
    meanwhile: list[object] = []

    async def slow(verb: object, item: object) -> object:
        if verb is REMOVE:
            job = await s.submit()
            meanwhile.extend([await s.lease(worker, who=who), hears.done(), (await s.get(job)).lease])
        return await submit(verb, item)  # type: ignore[arg-type]

    monkeypatch.setattr(s.scheduler._state.committer, "submit", slow)
    await s.scheduler.fleet.remove(ADA, worker.worker_id)
    assert meanwhile == [[], False, None]
    with pytest.raises(Unauthenticated):
        s.scheduler.access.authenticate(secret)
    assert [order.type for order in await hears] == [DirectiveType.REREGISTER]
