"""What is over is deleted in small steps that nobody waits for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from support.stage import ADA, EVE, Stage, stage
from towpath_server.core.errors import Draining, StoreUnavailable
from towpath_server.core.ids import show
from towpath_server.core.job import DAY, SECOND, Job, JobState, Timeouts
from towpath_server.core.records import Role, Token
from towpath_server.scheduler import retention
from towpath_server.scheduler.messages import JobFilter
from towpath_server.scheduler.retention import STEP
from towpath_server.scheduler.transactions.purge import SWEEP, Sweep
from towpath_server.store.base import Matching, Query, Recorded
from towpath_server.store.memory import MemoryStore
from towpath_server.store.sqlite import SqliteStore

MANY = 2 * STEP + 7
BRIEF = Timeouts(ttl=60 * SECOND)


class Watched(MemoryStore):
    """A store that remembers what was deleted in each call, and what was looked for; once it fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[int] = []
        self.fails = False

    def delete(self, job_ids: Sequence[int]) -> None:
        if self.fails:
            self.fails = False
            raise StoreUnavailable
        self.deleted.append(len(job_ids))
        super().delete(job_ids)


async def over(s: Stage, count: int) -> list[Job]:
    """Jobs that were cancelled."""
    jobs = [await s.submit(timeouts=BRIEF) for _ in range(count)]
    return [await s.scheduler.jobs.cancel(ADA, job.job_id, "", True) for job in jobs]


async def left(s: Stage) -> list[int]:
    return [job.job_id for job in await s.scheduler.jobs.find(ADA, JobFilter(), 10 * STEP, None, True)]


async def test_no_clock_waits_behind_what_is_over() -> None:
    async with stage() as s:
        await over(s, 3)
        late = await s.submit(timeouts=Timeouts(queue=60 * SECOND))
        s.hands.move(60)
        await s.scheduler.timers.run_due()
        assert await s.state(late) is JobState.TIMED_OUT
        assert len(await left(s)) == 4


async def test_what_is_over_goes_in_small_steps_all_of_it() -> None:
    store = Watched()
    async with stage(store) as s:
        await over(s, MANY)
        stays = await s.submit()
        await s.tick(60)
        assert await left(s) == [stays.job_id]
        assert (sum(store.deleted), max(store.deleted)) == (MANY, STEP)


async def test_what_could_not_be_deleted_is_deleted_later() -> None:
    store = Watched()
    async with stage(store) as s:
        await over(s, 1)
        s.hands.move(60)
        store.fails = True
        with pytest.raises(StoreUnavailable):
            await s.scheduler.retention.run_due()
        await s.scheduler.retention.run_due()
        assert await left(s) == []


async def test_a_cleanup_goes_in_small_steps_past_all_that_stays() -> None:
    store = Watched()
    async with stage(store) as s:
        waits = [await s.submit() for _ in range(3)]
        await over(s, MANY)
        s.hands.move(10)
        fresh = await over(s, 1)
        foreign = await s.submit(who=EVE)
        await s.scheduler.jobs.cancel(EVE, foreign.job_id, "", True)
        assert await s.scheduler.admin.cleanup(ADA, 5 * SECOND) == MANY
        assert await left(s) == [job.job_id for job in (*waits, *fresh)]
        assert (sum(store.deleted), max(store.deleted)) == (MANY, STEP)
        assert (await s.get(foreign, EVE)).state is JobState.CANCELLED


async def test_a_cleanup_goes_on_from_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int | None] = []
    find = MemoryStore.find

    def remembered(self: MemoryStore, query: Query, limit: int) -> list[Job]:
        if isinstance(query, Matching) and query.ended_before is not None:
            begun.append(query.after)
        return find(self, query, limit)

    monkeypatch.setattr(MemoryStore, "find", remembered)
    monkeypatch.setattr("towpath_server.scheduler.retention.PAGE", 5)
    async with stage() as s:
        jobs = await over(s, 12)
        assert await s.scheduler.admin.cleanup(ADA, 0) == 12
        # What was deleted is skipped one by one by whoever begins at the first again.
        assert begun == [None, jobs[4].job_id, jobs[9].job_id]


async def test_a_cleanup_does_not_hold_up_the_end_of_its_scheduler() -> None:
    async with stage() as s:
        jobs = await over(s, 1)
        s.scheduler.drain()
        with pytest.raises(Draining):
            await s.scheduler.admin.cleanup(ADA, 0)
        assert await left(s) == [jobs[0].job_id]


async def test_a_job_that_is_retried_meanwhile_stays() -> None:
    async with stage() as s:
        back, gone = await over(s, 2)
        seen = Sweep((back.job_id, gone.job_id), s.hands.now)
        await s.scheduler.jobs.retry(ADA, back.job_id)
        await s.scheduler.jobs._state.committer.submit(SWEEP, seen)
        assert await left(s) == [back.job_id]


async def test_a_step_that_waited_for_the_store_is_not_followed_by_as_long_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    class Slow(Watched):
        def delete(self, job_ids: Sequence[int]) -> None:
            s.hands.steady += 10 * SECOND
            super().delete(job_ids)

    async with stage(Slow()) as s:
        await over(s, 1)
        s.hands.move(61)
        monkeypatch.setattr("towpath_server.scheduler.retention.asyncio.sleep", sleep)
        await s.scheduler.retention.run_due()
        monkeypatch.undo()
        assert pauses == [retention.MOST_REST / SECOND]


async def test_invitations_that_ended_long_ago_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP", 2)
    async with stage(SqliteStore(tmp_path / "towpath.db")) as s:
        access = s.scheduler.access
        unused, secret = await access.issue("acme", "ada", "a", Role.ENROLLMENT, 300 * SECOND, by=ADA)
        others = [(await access.issue("acme", "ada", "b", Role.ENROLLMENT, 300 * SECOND))[0] for _ in range(3)]
        used, shown = await access.issue("acme", "ada", "c", Role.ENROLLMENT, 300 * SECOND)
        credential, _ = await s.scheduler.enrolment.redeem(access.authenticate(shown), "")
        ended, _ = await access.issue("acme", "ada", "d", Role.WORKER, 300 * SECOND)
        s.hands.move(DAY // SECOND + 299)
        late, _ = await access.issue("acme", "ada", "e", Role.ENROLLMENT, 300 * SECOND)
        first = s.scheduler._state.store.records(Token)[0]

        def left() -> list[int]:
            kept = [token.token_id for token in s.scheduler._state.store.records(Token)]
            assert {*kept} == {*access._tokens} == {*access._by_hash.values()}
            return kept

        await s.tick()
        # The used one ended when it was used.
        assert used.token_id not in left()
        assert {unused.token_id, *(one.token_id for one in others)} < {*left()}
        s.hands.move(1)
        await s.scheduler.retention.run_due()
        assert unused.token_id in left()
        s.hands.move(retention.LOOK // SECOND)
        await s.scheduler.retention.run_due()
        assert left() == [first.token_id, credential.token_id, ended.token_id, late.token_id]
        assert access.of_secret(secret) is None
        told = s.scheduler._state.store.audit(Recorded(subject=show("tok", unused.token_id)), 9)
        assert [one.action for one in told] == ["enrolment.invited"]
