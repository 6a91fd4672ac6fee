"""Quotas are kept to the letter: never a job more, and never one held back for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.shared_stage import pair
from support.stage import ADA, BOB, EVE, Stage, settled, stage
from towpath_server.core.errors import Forbidden, InvalidArgument, QuotaExceeded, QuotaNotFound, RateExceeded
from towpath_server.core.events import Succeeded
from towpath_server.core.job import SECOND, ConflictPolicy, Definition, Job, JobState
from towpath_server.core.quotas import Use
from towpath_server.core.records import Principal, Quota, Role
from towpath_server.scheduler.allowance import Allowance
from towpath_server.scheduler.changes import Change, Committed
from towpath_server.scheduler.messages import Logged, NewJob, Registered, Report
from towpath_server.store.sqlite import SqliteStore

ROOT = Principal(token_id=9, tenant="default", user="root", role=Role.ADMIN)


def new(count: int) -> list[NewJob]:
    return [NewJob(Definition(tenant="", user="", job_type="echo")) for _ in range(count)]


def allowance(on: Stage) -> Allowance:
    return on.scheduler.timers._state.allowance


async def limit(on: Stage, who: Principal | None = None, **limits: int) -> None:
    """Set the quota of a user; None: of the tenant acme as a whole."""
    await on.scheduler.quotas.set(ROOT, Quota(tenant="acme", user=who.user if who else "", **limits))


async def end(on: Stage, worker: Registered, jobs: Sequence[Job], who: Principal = ADA, result: bytes = b"") -> None:
    """The worker has done these."""
    line = on.scheduler.workers.connect(who, worker.worker_id, worker.session_id)
    reports = []
    for number, job in enumerate(jobs, start=1):
        assert job.lease is not None
        reports.append(Report(number, job.job_id, Succeeded(job.lease.token, result)))
    await line.report(reports)


async def exact(on: Stage, *who: Principal) -> None:
    """What is counted is what the store holds, and nothing is reserved any more."""
    kept = on.scheduler.timers._state.store.reader().usage()
    for one in who:
        found = kept.get((one.tenant, one.user), Use())
        assert allowance(on).use((one.tenant, one.user))[:2] == found[:2]
    assert not allowance(on)._reserved
    assert not allowance(on)._expected


async def test_a_batch_fits_whole_or_not_at_all() -> None:
    async with stage() as on:
        await limit(on, ADA, max_queued=10)
        await on.scheduler.jobs.create(ADA, new(6))
        with pytest.raises(QuotaExceeded, match="User ada may have at most 10 jobs that wait, and has 6 now") as caught:
            await on.scheduler.jobs.create(ADA, new(5))
        assert caught.value.retry_after == 5 * SECOND
        await on.scheduler.jobs.create(ADA, new(4))
        with pytest.raises(QuotaExceeded):
            await on.submit()
        await on.submit(who=BOB)
        await exact(on, ADA, BOB)


async def test_of_creates_that_come_together_no_more_go_through_than_fit() -> None:
    async with stage() as on:
        await limit(on, max_queued=25)
        calls = [on.scheduler.jobs.create(who, new(4)) for who in (ADA, BOB) * 10]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(one, list) for one in outcomes) == 6
        assert {type(one) for one in outcomes} == {list, QuotaExceeded}
        assert allowance(on).use(("acme", "")).queued == 24
        await on.submit()
        await exact(on, ADA, BOB)


async def test_what_was_acknowledged_is_answered_again_however_full_it_is() -> None:
    async with stage() as on:
        await limit(on, ADA, max_queued=2)
        first = await on.submit(request_id="r")
        held = await on.submit(dedupe_key="k")
        assert (await on.submit(request_id="r")).job_id == first.job_id
        again = await on.submit(dedupe_key="k", on_conflict=ConflictPolicy.RETURN_EXISTING)
        assert again.job_id == held.job_id
        with pytest.raises(QuotaExceeded):
            await on.submit(request_id="s")
        await exact(on, ADA)


async def test_room_comes_back_with_each_way_in_which_a_job_stops_waiting() -> None:
    async with stage() as on:
        await limit(on, ADA, max_queued=1)
        cancelled = await on.submit()
        await on.scheduler.jobs.cancel(ADA, cancelled.job_id, "", force=False)
        await on.submit()
        worker = await on.worker(slots=2)
        [run] = await on.lease(worker)
        # One that is to be queued again counts as well, whoever asks for it.
        await on.submit()
        for _ in range(2):
            with pytest.raises(QuotaExceeded):
                await on.scheduler.jobs.retry(ADA, cancelled.job_id)
        assert len(await on.lease(worker)) == 1
        await on.scheduler.jobs.retry(ADA, cancelled.job_id)
        with pytest.raises(QuotaExceeded):
            await on.submit()
        await end(on, worker, [run])
        await exact(on, ADA)


async def test_no_more_run_than_may_and_the_next_one_goes_when_one_ends() -> None:
    async with stage() as on:
        await limit(on, ADA, max_running=3)
        await on.scheduler.jobs.create(ADA, new(8))
        worker = await on.worker(slots=10)
        first = await on.lease(worker, 10)
        assert len(first) == 3
        poll = on.poll(worker, 10)
        await on.parked(1)
        explained = await on.scheduler.jobs.explain(ADA, (await on.submit()).job_id)
        assert explained.summary.startswith("3 of at most 3 jobs of user ada run")
        await end(on, worker, first[:2])
        assert len(await poll) == 2
        await exact(on, ADA)


async def test_polls_that_come_together_share_the_room() -> None:
    async with stage() as on:
        await limit(on, ADA, max_running=5)
        await on.scheduler.jobs.create(ADA, new(20))
        workers = [await on.worker(slots=4) for _ in range(5)]
        polls = [on.poll(worker, 4) for worker in workers]
        await settled(lambda: sum(poll.done() for poll in polls) + on.parked_now() == 5)
        done = [poll for poll in polls if poll.done()]
        assert sum(len(poll.result()) for poll in done) == 5
        await exact(on, ADA)
        # All end: others go at once, as many as may, though some of the polls were parked meanwhile.
        for worker, poll in zip(workers, polls, strict=True):
            if poll in done:
                await end(on, worker, poll.result())
        await settled(lambda: allowance(on).use(("acme", "ada")) == Use(10, 5))
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)


async def test_others_go_on_while_one_is_at_its_limit() -> None:
    async with stage() as on:
        await limit(on, ADA, max_running=1)
        await on.scheduler.jobs.create(ADA, new(3))
        mine, theirs = await on.worker(slots=4), await on.worker(slots=4, who=BOB)
        assert len(await on.lease(mine, 4)) == 1
        await on.scheduler.jobs.create(BOB, new(3))
        assert len(await on.lease(theirs, 4, who=BOB)) == 3


async def test_the_tenant_counts_its_users_together() -> None:
    async with stage() as on:
        await limit(on, max_running=3)
        await on.scheduler.jobs.create(ADA, new(2))
        await on.scheduler.jobs.create(BOB, new(5))
        mine, theirs = await on.worker(slots=5), await on.worker(slots=5, who=BOB)
        leased = await on.lease(theirs, 2, who=BOB)
        assert len(await on.lease(mine, 5)) == 1
        poll = on.poll(mine, 5)
        await on.parked(1)
        await end(on, theirs, leased, BOB)
        assert len(await poll) == 1
        await exact(on, ADA, BOB)


async def test_a_parked_worker_is_handed_no_more_new_jobs_than_may_run() -> None:
    async with stage() as on:
        await limit(on, ADA, max_running=2)
        worker = await on.worker(slots=5)
        poll = on.poll(worker, 5)
        await on.parked(1)
        await on.scheduler.jobs.create(ADA, new(5))
        leased = await poll
        assert len(leased) == 2
        again = on.poll(worker, 3)
        await on.parked(1)
        # A new one does not overtake those that wait.
        late = await on.submit()
        await end(on, worker, leased[:1])
        [following] = await again
        assert following.job_id < late.job_id
        await exact(on, ADA)


async def test_a_larger_quota_and_none_at_all_let_go_at_once() -> None:
    async with stage() as on:
        await limit(on, ADA, max_running=0)
        worker = await on.worker(slots=5)
        poll = on.poll(worker, 1)
        await on.parked(1)
        await on.scheduler.jobs.create(ADA, new(3))
        await limit(on, ADA, max_running=1)
        assert len(await poll) == 1
        poll = on.poll(worker, 5)
        await on.parked(1)
        await on.scheduler.quotas.delete(ROOT, "acme", "ada")
        assert len(await poll) == 2
        assert not allowance(on).is_on


async def test_a_quota_that_comes_late_counts_what_is_there_and_so_does_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "towpath.db")
    async with stage(store) as on:
        jobs = await on.scheduler.jobs.create(ADA, new(5))
        worker = await on.worker(slots=2)
        assert len(await on.lease(worker, 2)) == 2
        await limit(on, ADA, max_queued=4, max_running=2)
        await exact(on, ADA)
        assert await on.lease(worker) == []
        await on.submit()
        with pytest.raises(QuotaExceeded):
            await on.submit()
    async with stage(SqliteStore(tmp_path / "towpath.db")) as on:
        assert allowance(on).use(("acme", "ada")) == Use(4, 2)
        await exact(on, ADA)
        with pytest.raises(QuotaExceeded):
            await on.submit()
        # Offers that nobody took up come back.
        await on.tick(60)
        assert await on.state(jobs[0]) is JobState.QUEUED
        await exact(on, ADA)


async def test_what_is_kept_counts_until_it_is_deleted() -> None:
    async with stage() as on:
        await limit(on, ADA, max_result_bytes=1000, max_log_bytes=1000)
        worker = await on.worker(slots=3)
        jobs = await on.scheduler.jobs.create(ADA, new(3))
        leased = await on.lease(worker, 3)
        await end(on, worker, leased[:1], result=b"x" * 1000)
        with pytest.raises(QuotaExceeded, match=r"1000 bytes of results, and has 1000 now\. Delete finished jobs"):
            await on.submit()
        # What runs may finish: nothing is lost.
        await end(on, worker, leased[1:2], result=b"y" * 1000)
        assert (await on.get(jobs[1])).result == b"y" * 1000
        await on.scheduler.quotas.look()
        assert allowance(on).use(("acme", "ada")) == Use(0, 1, 2000)
        for job in jobs[:2]:
            await on.scheduler.jobs.delete(ADA, job.job_id)
        await on.submit()
        lease = leased[2].lease
        assert lease is not None
        line = on.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
        await line.report([Report(9, leased[2].job_id, Logged(lease.token, 0, "z" * 1000, 1, 0))])
        await on.scheduler.quotas.look()
        with pytest.raises(QuotaExceeded, match="bytes of logs"):
            await on.submit()


async def test_calls_come_back_with_time() -> None:
    async with stage() as on:
        await limit(on, ADA, max_requests_per_minute=20)
        await limit(on, max_requests_per_minute=30)
        meter = allowance(on)
        meter.call("acme", "ada")
        meter.call("acme", "ada")
        with pytest.raises(RateExceeded, match=r"User ada may make at most 20 calls a minute. Try again in 3.0 s"):
            meter.call("acme", "ada")
        meter.call("acme", "bob")
        # What was refused has taken nothing, from the tenant neither.
        with pytest.raises(RateExceeded, match="Tenant acme") as caught:
            meter.call("acme", "bob")
        assert caught.value.retry_after == 2 * SECOND
        on.hands.move(2)
        meter.call("acme", "bob")
        meter.call("evil", "eve")


async def test_only_who_runs_the_scheduler_sets_quotas_and_others_see_their_own() -> None:
    async with stage() as on:
        for principal in (ADA, EVE, Principal(token_id=8, tenant="default", user="x", role=Role.OPERATOR)):
            with pytest.raises(Forbidden, match="only admins of the tenant default"):
                await on.scheduler.quotas.set(principal, Quota(tenant=principal.tenant, max_queued=1))
            with pytest.raises(Forbidden):
                await on.scheduler.quotas.delete(principal, principal.tenant, "")
        with pytest.raises(InvalidArgument):
            await on.scheduler.quotas.set(ROOT, Quota(user="ada"))
        with pytest.raises(QuotaNotFound, match="No quota of ada of acme"):
            await on.scheduler.quotas.delete(ROOT, "acme", "ada")
        await on.scheduler.quotas.set(ROOT, Quota(max_queued=7))
        await limit(on, ADA, max_queued=5)
        await on.submit()
        shown = {(view.quota.tenant, view.quota.user): view for view in on.scheduler.quotas.quotas(ADA)}
        assert set(shown) == {("acme", ""), ("acme", "ada")}
        assert (shown["acme", ""].quota.max_queued, shown["acme", ""].use.queued) == (7, 1)
        assert set(shown) == {(one.quota.tenant, one.quota.user) for one in on.scheduler.quotas.quotas(ADA)}
        assert [one.quota.user for one in on.scheduler.quotas.quotas(BOB)] == [""]
        assert [(one.quota.tenant, one.use) for one in on.scheduler.quotas.quotas(EVE)] == [("evil", Use())]
        assert len(on.scheduler.quotas.quotas(ROOT)) == 2
        with pytest.raises(QuotaExceeded, match="Tenant evil"):
            await on.scheduler.jobs.create(EVE, new(8))


async def test_of_several_schedulers_each_learns_what_the_others_did() -> None:
    async with pair() as two:
        one, other = two.one.stage, two.other.stage
        await limit(one, ADA, max_queued=4, max_running=2)
        await two.other.catch_up()
        await one.scheduler.jobs.create(ADA, new(3))
        await other.scheduler.quotas.look()
        await other.submit()
        with pytest.raises(QuotaExceeded, match="has 4 now"):
            await other.submit()
        theirs = await other.worker(slots=4)
        leased = await other.lease(theirs, 4)
        assert len(leased) == 2
        await one.scheduler.quotas.look()
        mine = await one.worker(slots=4)
        poll = one.poll(mine, 4)
        await one.parked(1)
        await end(other, theirs, leased)
        await one.scheduler.quotas.look()
        assert len(await poll) == 2
        await one.scheduler.quotas.delete(ROOT, "acme", "ada")
        await two.other.catch_up()
        assert not allowance(other).is_on


async def test_a_job_counts_once_while_its_commit_is_told() -> None:
    async with stage() as on:
        await limit(on, ADA, max_queued=3)
        job = replace(await on.submit(), job_id=99)
        counts = allowance(on)
        assert counts.expect(99, "acme", "ada", running=False)
        assert counts.refusal("acme", "ada", 2) is not None
        counts.take_in([Committed((Change(None, job),))])
        assert counts.refusal("acme", "ada", 1) is None
        assert counts.refusal("acme", "ada", 2) is not None
