"""Two schedulers over one store: what happens at one is felt at the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from support.shared_stage import Pair, again, pair, still
from support.stage import ADA, BOB, settled
from towpath_server.core.errors import SessionUnknown, Unauthenticated
from towpath_server.core.events import Started, Succeeded
from towpath_server.core.job import DAY, SECOND, Job, JobState, Timeouts
from towpath_server.core.records import ModelRecord, Principal, Role, Token
from towpath_server.core.records import Replica as ReplicaRecord
from towpath_server.scheduler import feed, follow, replicas
from towpath_server.scheduler.messages import (
    DirectiveType,
    Heartbeat,
    HeldLease,
    JobFilter,
    Logged,
    Report,
    Told,
    WorkerState,
)
from towpath_server.store.verb import Verb


@pytest.fixture
async def two() -> AsyncIterator[Pair]:
    async with pair() as started:
        yield started


async def test_a_job_that_is_submitted_to_one_wakes_a_worker_that_waits_at_the_other(two: Pair) -> None:
    worker = await two.other.stage.worker()
    poll = two.other.stage.poll(worker)
    await two.other.stage.parked(1)
    job = await two.one.stage.submit()
    [leased] = await poll
    assert leased.job_id == job.job_id
    assert (await two.one.stage.get(job)).worker_id == worker.worker_id


async def test_a_job_goes_to_one_worker_where_one_waits_at_each(two: Pair) -> None:
    # Another type: those who wait for it are not there yet when it is submitted.
    jobs = [await two.one.stage.submit(str(number)) for number in range(5)]
    workers = [(side, await side.stage.worker(slots=5)) for side in (two.one, two.other)]
    await two.other.catch_up()
    found = await asyncio.gather(*(side.stage.lease(worker, 5) for side, worker in workers))
    assert sorted(job.job_id for leased in found for job in leased) == [job.job_id for job in jobs]


async def test_a_lost_notice_costs_no_more_than_the_pause_until_the_next_look(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LOOK", 0.01)
    two.hub.loses_notices = True
    worker = await two.other.stage.worker()
    poll = two.other.stage.poll(worker)
    await two.other.stage.parked(1)
    job = await two.one.stage.submit()
    [leased] = await poll
    assert leased.job_id == job.job_id


async def test_a_job_is_not_waited_for_because_something_older_is_still_under_way(two: Pair) -> None:
    worker = await two.other.stage.worker()
    poll = two.other.stage.poll(worker)
    await two.other.stage.parked(1)
    two.hub.hold_back = two.hub.sequence
    job = await two.one.stage.submit()
    [leased] = await poll
    assert leased.job_id == job.job_id


async def test_a_cancel_at_one_reaches_the_worker_whose_stream_is_at_the_other(two: Pair) -> None:
    worker = await two.other.stage.worker()
    job = await two.one.stage.submit()
    await two.other.catch_up()
    [leased] = await two.other.stage.lease(worker)
    assert leased.lease is not None
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    await stream.report([Report(1, job.job_id, Started(leased.lease.token))])
    await two.one.stage.scheduler.jobs.cancel(ADA, job.job_id, "enough", force=False)
    [order] = await stream.orders()
    assert (order.type, order.job_id, order.reason) == (DirectiveType.CANCEL, job.job_id, "enough")
    assert order.grace == leased.definition.timeouts.cancel_grace


async def test_a_timeout_that_one_notices_stops_the_job_at_the_other(two: Pair) -> None:
    worker = await two.other.stage.worker()
    job = await two.one.stage.submit(timeouts=Timeouts(execution=5 * SECOND))
    await two.other.catch_up()
    [leased] = await two.other.stage.lease(worker)
    assert leased.lease is not None
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    await stream.report([Report(1, job.job_id, Started(leased.lease.token))])
    await two.one.catch_up()
    await two.one.stage.tick(6)
    [order] = await stream.orders()
    assert (order.type, order.job_id) in [(DirectiveType.KILL, job.job_id), (DirectiveType.CANCEL, job.job_id)]


async def test_one_is_told_of_the_end_that_a_worker_reports_to_the_other(two: Pair) -> None:
    worker = await two.other.stage.worker()
    job = await two.one.stage.submit()
    waits = asyncio.create_task(two.one.stage.scheduler.jobs.wait(ADA, job.job_id, None, 30 * SECOND))
    await settled(lambda: two.one.state.watchers.any_of(job.job_id))
    await two.other.catch_up()
    [leased] = await two.other.stage.lease(worker)
    assert leased.lease is not None
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    await stream.report([Report(1, job.job_id, Succeeded(leased.lease.token, b"done"))])
    assert (await waits).result == b"done"
    # Its own worker brought it about: it is not told to drop anything.
    await two.other.catch_up()
    session = two.other.state.sessions.of_worker(worker.worker_id)
    assert session is not None
    assert not session.held
    assert not session._orders


async def _told(side: AsyncIterator[Told], jobs: int) -> list[tuple[int, int, int]]:
    seen: list[tuple[int, int, int]] = []
    async for told in side:
        seen += [(job.sequence, job.job_id, job.revision) for job in told.jobs]
        if len(seen) >= jobs:
            return seen
    return seen


async def test_watchers_of_both_are_told_in_one_order(two: Pair) -> None:
    watches = [side.stage.scheduler.jobs.watch_all(ADA, JobFilter()) for side in (two.one, two.other)]
    for watch in watches:
        await anext(watch)
    tasks = [asyncio.create_task(_told(watch, 40)) for watch in watches]
    sides = (two.one, two.other)
    await asyncio.gather(*(sides[number % 2].stage.submit(str(number)) for number in range(40)))
    seen, also_seen = await asyncio.gather(*tasks)
    assert seen == also_seen == sorted(seen)


async def test_nothing_is_told_that_something_older_may_still_come_in_front_of(two: Pair) -> None:
    watch = two.other.stage.scheduler.jobs.watch_all(ADA, JobFilter())
    await anext(watch)
    two.hub.hold_back = two.hub.sequence
    job = await two.one.stage.submit()
    next_told = asyncio.ensure_future(anext(watch))
    await two.other.catch_up()
    assert not next_told.done()
    two.hub.hold_back = None
    await two.other.catch_up()
    told = await next_told
    assert [one.job_id for one in told.jobs] == [job.job_id]
    assert told.sequence == two.hub.sequence


async def test_what_is_held_back_is_told_soon_also_where_nobody_says_that_it_is_settled(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LOOK", 3600.0)
    watch = two.other.stage.scheduler.jobs.watch_all(ADA, JobFilter())
    await anext(watch)
    two.hub.hold_back = two.hub.sequence
    job = await two.one.stage.submit()
    assert two.other.stage.scheduler._feed is not None
    ahead = two.other.stage.scheduler._feed
    await settled(lambda: job.job_id in ahead._ahead)
    two.hub.hold_back = None
    assert [one.job_id for one in (await anext(watch)).jobs] == [job.job_id]


async def test_many_jobs_that_are_news_at_once_are_loaded_a_few_at_a_time(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MOST_WHOLE", 3)
    watch = two.other.stage.scheduler.jobs.watch_all(ADA, JobFilter())
    await anext(watch)
    assert two.other.stage.scheduler._feed is not None
    await two.other.stage.scheduler._feed.stop()
    jobs = [await two.one.stage.submit(str(number)) for number in range(10)]
    loads: list[int] = []
    load = two.other.stage.scheduler._feed._load

    async def counted(job_ids: Sequence[int]) -> dict[int, Job]:
        loads.append(len(job_ids))
        return await load(job_ids)

    monkeypatch.setattr(two.other.stage.scheduler._feed, "_load", counted)
    two.other.stage.scheduler._feed.start()
    seen = await _told(watch, len(jobs))
    assert [job_id for _, job_id, _ in seen] == [job.job_id for job in jobs]
    assert 0 < max(loads) <= 3


async def test_a_watch_goes_on_at_the_other_where_it_was_cut_off(two: Pair) -> None:
    watch = two.one.stage.scheduler.jobs.watch_all(ADA, JobFilter())
    await anext(watch)
    first = await two.one.stage.submit("first")
    told = await anext(watch)
    assert [job.job_id for job in told.jobs] == [first.job_id]
    await watch.aclose()
    # The other one has heard of nothing yet, and must not begin from the beginning.
    await still(two.other)
    second = await two.one.stage.submit("second")
    assert two.other.stage.scheduler._feed is not None
    two.other.stage.scheduler._feed.start()
    resumed = two.other.stage.scheduler.jobs.watch_all(ADA, JobFilter(), told.sequence)
    seen = []
    async for more in resumed:
        seen += [job.job_id for job in more.jobs]
        if seen:
            break
    assert seen == [second.job_id]


async def test_what_was_read_ahead_of_the_news_is_not_told_again_with_them(two: Pair) -> None:
    began = two.other.state.watchers.sequence
    await still(two.other)
    jobs = [await two.one.stage.submit(str(number)) for number in range(follow.PAGE)]
    watch = two.other.stage.scheduler.jobs.watch_all(ADA, JobFilter(), began)
    await anext(watch)
    told = await anext(watch)
    assert [job.job_id for job in told.jobs] == [job.job_id for job in jobs]
    next_told = asyncio.ensure_future(anext(watch))
    assert two.other.stage.scheduler._feed is not None
    two.other.stage.scheduler._feed.start()
    last = await two.one.stage.submit("last")
    assert [job.job_id for job in (await next_told).jobs] == [last.job_id]


async def test_a_token_that_one_makes_is_known_to_the_other_and_void_there_when_it_is_revoked(two: Pair) -> None:
    token, secret = await two.one.stage.scheduler.access.create(ADA, "bot", "bob", Role.SUBMITTER, None)
    await two.other.catch_up()
    access = two.other.stage.scheduler.access
    assert access.authenticate(secret).user == "bob"
    void: list[int] = []
    access.on_changed(void.append)
    await two.one.stage.scheduler.access.revoke(ADA, token.token_id)
    await settled(lambda: bool(void))
    assert void == [token.token_id]
    with pytest.raises(Unauthenticated):
        access.authenticate(secret)


async def test_a_queue_that_one_pauses_hands_out_nothing_at_the_other(two: Pair) -> None:
    worker = await two.other.stage.worker()
    job = await two.one.stage.submit()
    await two.one.stage.scheduler.queues.pause(ADA, "default")
    await two.other.catch_up()
    assert await two.other.stage.lease(worker) == []
    poll = two.other.stage.poll(worker)
    await two.other.stage.parked(1)
    await two.one.stage.scheduler.queues.resume(ADA, "default")
    [leased] = await poll
    assert leased.job_id == job.job_id


async def test_a_worker_that_one_is_told_to_drain_drains_at_the_other(two: Pair) -> None:
    worker = await two.other.stage.worker()
    await two.one.catch_up()
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    view = await two.one.stage.scheduler.fleet.drain(ADA, worker.worker_id)
    assert view.state is WorkerState.DRAINING
    assert [order.type for order in await stream.orders()] == [DirectiveType.DRAIN]


async def test_workers_of_both_are_shown_by_both(two: Pair) -> None:
    worker = await two.other.stage.worker(slots=3)
    await two.one.stage.submit()
    await two.other.catch_up()
    await two.other.stage.lease(worker)
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    stream.heartbeat(Heartbeat(()))
    for _ in range(replicas.SHOW_EVERY):
        await two.other.look_round()
    await two.one.look_round()
    await two.one.catch_up()
    [view] = two.one.stage.scheduler.fleet.workers(ADA, include_offline=False)
    assert (view.worker.worker_id, view.state, view.running) == (worker.worker_id, WorkerState.READY, 1)
    assert view == two.other.stage.scheduler.fleet.worker(ADA, worker.worker_id)
    overview = await two.one.stage.scheduler.admin.overview(ADA)
    assert (overview.workers, overview.slots, overview.free_slots) == (1, 3, 2)
    await two.other.stage.scheduler.workers.deregister(ADA, worker.worker_id, worker.session_id)
    await two.one.catch_up()
    assert two.one.stage.scheduler.fleet.workers(ADA, include_offline=False) == []


async def test_a_worker_goes_over_to_the_other_with_what_it_runs(two: Pair) -> None:
    worker = await two.one.stage.worker()
    job = await two.one.stage.submit()
    [leased] = await two.one.stage.lease(worker)
    assert leased.lease is not None
    stream = two.one.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    with pytest.raises(SessionUnknown):
        two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    # At once: the other one may not have heard of the worker at all.
    held = (HeldLease(job.job_id, leased.lease.token),)
    moved = await two.other.stage.scheduler.workers.register(ADA, again(worker, held=held))
    assert moved.worker_id == worker.worker_id
    assert [order.type for order in await stream.orders()] == [DirectiveType.REREGISTER]
    # The session that is over here takes nothing from the new one.
    await two.one.stage.tick(20)
    assert two.one.kept(worker).session_id == moved.session_id
    there = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, moved.session_id)
    await there.report([Report(1, job.job_id, Succeeded(leased.lease.token, b"1"))])
    assert await two.one.stage.state(job) is JobState.SUCCEEDED


async def test_the_workers_of_one_that_died_live_on_at_the_other(two: Pair) -> None:
    worker = await two.one.stage.worker()
    job = await two.one.stage.submit()
    [leased] = await two.one.stage.lease(worker)
    assert leased.lease is not None
    await two.other.catch_up()
    await two.die()
    assert two.other.kept(worker).replica_id == two.other.state.replica_id
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    await stream.report([Report(1, job.job_id, Succeeded(leased.lease.token, b"1"))])
    assert await two.other.stage.state(job) is JobState.SUCCEEDED


async def test_a_job_whose_worker_died_with_its_scheduler_goes_to_another_one(two: Pair) -> None:
    worker = await two.one.stage.worker()
    job = await two.one.stage.submit()
    await two.one.stage.lease(worker)
    await two.other.catch_up()
    await two.die()
    await two.other.stage.tick(30)
    assert two.other.kept(worker).session_id == ""
    await two.other.stage.tick(30)
    alive = await two.other.stage.worker()
    assert [leased.job_id for leased in await two.other.stage.lease(alive)] == [job.job_id]


async def test_one_that_stood_still_and_was_taken_for_dead_begins_anew(two: Pair) -> None:
    worker = await two.one.stage.worker()
    await two.other.catch_up()
    number = two.one.state.replica_id
    session = two.one.state.sessions.of_worker(worker.worker_id)
    assert session is not None
    await two.die()
    # Its number is free again, and somebody else may have it.
    assert [one.replica_id for one in two.hub.store().records(ReplicaRecord)] == [two.other.state.replica_id]
    await two.one.look_round()
    assert session.over
    assert two.one.state.replica_id == number
    assert two.other.kept(worker).replica_id == two.other.state.replica_id
    # What it thinks of the session takes nothing away.
    await two.one.stage.tick(40)
    assert two.other.kept(worker).session_id == worker.session_id


async def test_the_workers_of_one_that_began_a_moment_ago_stay_with_it(two: Pair) -> None:
    worker = await two.one.stage.worker()
    await two.other.catch_up()
    # As the other one would, that has heard of the worker and not yet of its scheduler.
    await two.other.stage.scheduler.workers.adopt([two.other.kept(worker)], dead=())
    assert two.other.kept(worker).replica_id == two.one.state.replica_id
    assert two.other.state.sessions.of_worker(worker.worker_id) is None


async def test_a_worker_that_comes_over_leaves_no_model_behind_that_it_has_not(two: Pair) -> None:
    worker = await two.one.stage.worker()
    model = ModelRecord(
        model_id=5,
        worker_id=worker.worker_id,
        tenant="",
        user="",
        name="m",
        version=1,
        model_type="",
        task_type=0,
        create_time=1,
    )
    two.hub.loses_notices = True
    await two.one.stage.scheduler.workers.sync_models(ADA, worker.worker_id, worker.session_id, [model])
    await two.other.stage.scheduler.workers.register(ADA, again(worker))
    assert two.hub.store().records(ModelRecord) == []


async def test_older_news_take_nothing_back_from_one_who_waits(two: Pair) -> None:
    job = await two.one.stage.submit()
    with two.one.state.watchers.job(job.job_id) as watch:
        watch.tell(replace(job, revision=3, state=JobState.CANCELLED))
        watch.tell(replace(job, revision=2))
        assert [told.revision for told in await watch.next()] == [3]


async def test_nobody_is_taken_for_dead_while_the_store_did_not_answer(two: Pair) -> None:
    await two.other.look_round()
    two.hands.steady += replicas.DEAD
    assert two.other.stage.scheduler._replicas is not None
    two.other.stage.scheduler._replicas._signs.clear()
    await two.other.look_round()
    assert len(two.hub.store().records(ReplicaRecord)) == 2


async def test_nobody_is_taken_for_dead_while_the_store_stood_still(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    await two.other.look_round()
    submit = two.other.state.committer.submit

    async def slow(verb: Verb[Any, Any], item: Any) -> Any:
        outcome = await submit(verb, item)
        two.hands.steady += replicas.DEAD
        return outcome

    monkeypatch.setattr(two.other.state.committer, "submit", slow)
    await two.other.look_round()
    assert len(two.hub.store().records(ReplicaRecord)) == 2


async def test_one_that_stops_gives_its_number_back() -> None:
    async with pair() as two:
        pass
    assert two.hub.store().records(ReplicaRecord) == []


async def test_two_that_begin_at_once_have_numbers_of_their_own_and_one_first_token() -> None:
    async with pair() as two:
        assert two.one.state.replica_id != two.other.state.replica_id
        [token] = two.hub.store().records(Token)
        who = Principal(token.token_id, token.tenant, token.user, token.role)
        for side in (two.one, two.other):
            assert side.stage.scheduler.access.tokens(who) == [token]


async def test_ids_of_the_same_moment_differ(two: Pair) -> None:
    ids = [side.state.ids.next() for _ in range(2000) for side in (two.one, two.other)]
    assert len(set(ids)) == len(ids)


async def test_a_follower_of_logs_hears_what_is_written_elsewhere(two: Pair) -> None:
    worker = await two.other.stage.worker()
    job = await two.one.stage.submit()
    await two.other.catch_up()
    [leased] = await two.other.stage.lease(worker)
    assert leased.lease is not None
    token = leased.lease.token
    stream = two.other.stage.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    await stream.report([Report(1, job.job_id, Started(token))])
    follows = two.one.stage.scheduler.jobs.logs(ADA, job.job_id, 0, 0, True)
    chunk = asyncio.ensure_future(anext(follows))
    await settled(lambda: two.one.state.watchers.any_of(job.job_id))
    await stream.report([Report(2, job.job_id, Logged(token, 0, "hello\n", 1, two.hands.now))])
    assert (await chunk).text == "hello\n"


async def test_who_may_not_see_a_job_is_told_nothing_of_it_elsewhere(two: Pair) -> None:
    watch = two.other.stage.scheduler.jobs.watch_all(BOB, JobFilter())
    await anext(watch)
    await two.one.stage.submit()
    mine = await two.one.stage.submit(who=BOB)
    told = await anext(watch)
    while not told.jobs:
        told = await anext(watch)
    assert [job.job_id for job in told.jobs] == [mine.job_id]


async def test_what_one_has_forgotten_the_other_forgets_too(two: Pair) -> None:
    access = two.other.stage.scheduler.access
    token, secret = await two.one.stage.scheduler.access.issue("acme", "ada", "x", Role.ENROLLMENT, SECOND)
    await two.other.catch_up()
    assert access.of_secret(secret) == token
    two.hands.move(2 * DAY // SECOND)
    await two.one.stage.scheduler.retention.run_due()
    await two.other.catch_up()
    assert access.of_secret(secret) is None
    assert token.token_id not in access._tokens
