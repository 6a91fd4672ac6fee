"""Watching many jobs: cut off anywhere, a watch that goes on from its last sequence misses nothing."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.stage import ADA, BOB, Hands, Stage, settled, stage
from support.watching import Life, Reader, last_states, reading, waiting
from towpath_server.core.errors import SlowConsumer
from towpath_server.core.events import Released, Succeeded
from towpath_server.core.job import SECOND, Job, JobState
from towpath_server.core.records import Principal
from towpath_server.scheduler import follow, watchers
from towpath_server.scheduler.messages import JobFilter, Logged, Report, Told
from towpath_server.scheduler.watchers import Watchers, outline
from towpath_server.store import committer
from towpath_server.store.base import Matching, Store
from towpath_server.store.memory import MemoryStore
from towpath_server.store.sqlite import SqliteStore

ALL = JobFilter()
ENDED = JobFilter(states=(JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT))
FILTERS = (ALL, ENDED, JobFilter(queue="tow"), JobFilter(states=(JobState.QUEUED,), queue="tow"))


def stand(store: Store, wanted: JobFilter, principal: Principal) -> dict[int, Job]:
    """The jobs that fit, as the store has them."""
    user = None if principal is ADA else principal.user
    query = Matching(tenant="acme", user=user, states=wanted.states, queue=wanted.queue)
    return {job.job_id: outline(job) for job in store.find(query, 100_000)}


def new_store(kind: str, folder: Path) -> Store:
    return MemoryStore() if kind == "memory" else SqliteStore(folder / "towpath.db")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", range(4))
async def test_from_every_cut_on_nothing_is_missed(
    kind: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PAGE", 3)
    store, hands = new_store(kind, tmp_path), Hands()
    life = Life(random.Random(seed))
    whole = [Reader(who, wanted) for wanted in FILTERS for who in (ADA, BOB)]
    async with stage(store, hands) as s, reading(s, *whole):
        await life.goes_on(s, 25)
        await settled(lambda: waiting(s))
        if kind == "memory":
            await check_every_cut(s, store, whole)
    if kind == "sqlite":
        # The scheduler is another one by now, and the clock was put back meanwhile.
        hands.now -= 3600 * SECOND
        store = new_store(kind, tmp_path)
        async with stage(store, hands) as s:
            await check_every_cut(s, store, whole)
            async with reading(s, whole[0], from_sequence=whole[0].sequence):
                await life.goes_on(s, 10)
                await settled(lambda: waiting(s))
            assert whole[0].jobs.items() >= stand(store, ALL, ADA).items()


async def check_every_cut(s: Stage, store: Store, whole: Sequence[Reader]) -> None:
    await settled(lambda: waiting(s))
    for reader in whole:
        assert [one.sequence for one in reader.told] == sorted(one.sequence for one in reader.told)
        for cut in range(1, len(reader.told) + 1):
            first = reader.told[:cut]
            second = Reader(reader.principal, reader.wanted)
            async with reading(s, second, from_sequence=first[-1].sequence):
                await settled(lambda: waiting(s))
            assert not second.told[0].jobs
            numbers = [job.sequence for one in second.told for job in one.jobs]
            # In order, none twice, and none that was told before.
            assert numbers == sorted(set(numbers))
            assert not numbers or numbers[0] > first[-1].sequence
            known = last_states(first) | second.jobs
            assert known.items() >= stand(store, reader.wanted, reader.principal).items()
            if reader.principal is BOB:
                assert {job.definition.user for job in second.jobs.values()} <= {"bob"}


async def test_what_is_read_from_the_store_before_it_is_told_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived, gate = threading.Event(), threading.Event()

    def reach(name: str) -> None:
        if name == "commit.after" and not gate.is_set():
            arrived.set()
            assert gate.wait(30)

    async with stage() as s:
        old = await s.submit()
        monkeypatch.setattr(committer, "reach", reach)
        ahead = asyncio.create_task(s.submit())
        await asyncio.to_thread(arrived.wait)
        # On disk, and nobody was told.
        reader = Reader(ADA, ALL)
        async with reading(s, reader, from_sequence=old.sequence):
            await settled(lambda: waiting(s) and len(reader.jobs) == 1)
            gate.set()
            await ahead
            last = await s.submit()
            await settled(lambda: last.job_id in reader.jobs)
        told = [(job.job_id, job.sequence) for one in reader.told for job in one.jobs]
        assert [job_id for job_id, _ in told] == [(await ahead).job_id, last.job_id]


async def test_nothing_falls_between_catching_up_and_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PAGE", 2)
    async with stage() as s:
        first = await s.submit()
        for _ in range(4):
            await s.submit()
        told: list[Told] = []
        watch = s.scheduler.jobs.watch_all(ADA, ALL, first.sequence)
        # More comes while each page is read, and after it was.
        for _ in range(6):
            more = [asyncio.create_task(s.submit()) for _ in range(3)]
            told.append(await anext(watch))
            await asyncio.gather(*more)
        while len(last_states(told)) < 22:
            told.append(await anext(watch))
        await watch.aclose()
        numbers = [job.sequence for one in told for job in one.jobs]
        assert len(numbers) == 22
        assert numbers == sorted(set(numbers))


async def test_a_slow_reader_is_kept_few_jobs_then_told_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "MOST_PENDING", 5)
    async with stage() as s:
        known: Watchers = s.scheduler.jobs._state.watchers
        watch = s.scheduler.jobs.watch_all(ADA, ALL)
        told = [await anext(watch)]
        job = await s.submit()
        told.append(await anext(watch))
        for _ in range(20):
            await s.submit()
            assert known.pending() <= 5
        assert known.pending() == 0
        with pytest.raises(SlowConsumer) as caught:
            await anext(watch)
        assert caught.value.facts == {"sequence": str(told[-1].sequence)}
        assert not known._broad
        again = Reader(ADA, ALL)
        async with reading(s, again, from_sequence=told[-1].sequence):
            await settled(lambda: len(again.jobs) == 20)
        assert job.job_id not in again.jobs


async def test_changes_in_quick_succession_are_kept_as_one_without_spec_and_result() -> None:
    async with stage() as s:
        job = await s.submit()
        watch = s.scheduler.jobs.watch_all(ADA, ALL)
        await anext(watch)
        for _ in range(50):
            await s.scheduler.jobs.pause(ADA, job.job_id)
            await s.scheduler.jobs.resume(ADA, job.job_id)
        assert s.scheduler.jobs._state.watchers.pending() == 1
        (one,) = (await anext(watch)).jobs
        assert one == outline(await s.get(job))
        await watch.aclose()


@pytest.mark.parametrize("sequence", [1, 1 << 62])
async def test_a_sequence_that_was_never_given_tells_all_jobs(sequence: int) -> None:
    async with stage() as s:
        jobs = [await s.submit() for _ in range(3)]
        reader = Reader(ADA, ALL)
        async with reading(s, reader, from_sequence=sequence):
            await settled(lambda: len(reader.jobs) == 3)
            assert reader.told[0] == Told((), 1)
            await s.scheduler.jobs.pause(ADA, jobs[0].job_id)
            await settled(lambda: reader.jobs[jobs[0].job_id].state is JobState.PAUSED)
        assert reader.sequence > 1


async def test_a_watch_of_one_job_goes_on_after_its_store_was_restored() -> None:
    async with stage() as s:
        job = await s.submit()
        watch = s.scheduler.jobs.watch(ADA, job.job_id, 1000)
        assert (await anext(watch)).revision == job.revision
        await watch.aclose()


async def test_whoever_reads_a_log_slowly_misses_no_attempt() -> None:
    async with stage() as s:
        worker = await s.worker()
        job = await s.submit()
        numbers = iter(range(1, 100))

        async def attempt(number: int, *pieces: str, last: bool = False) -> None:
            (leased,) = await s.lease(worker)
            assert leased.lease is not None
            token = leased.lease.token
            connection = s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
            for index, text in enumerate(pieces):
                logged = Logged(token, 2 * index, text, 1, s.hands.now)
                await connection.report([Report(next(numbers), job.job_id, logged)])
            end = Succeeded(token, b"") if last else Released(token)
            await connection.report([Report(next(numbers), job.job_id, end)])

        log = s.scheduler.jobs.logs(ADA, job.job_id, 0, 0, follow=True)
        first = asyncio.ensure_future(anext(log))
        await attempt(1, "a\n", "b\n")
        assert (await first).text == "a\n"
        await attempt(2, "c\n")
        await attempt(3, "d\n", "e\n", last=True)
        rest = [(chunk.attempt, chunk.text) async for chunk in log]
        assert rest == [(1, "b\n"), (2, "c\n"), (3, "d\n"), (3, "e\n")]


async def test_whoever_catches_up_is_not_dropped_for_what_comes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "MOST_PENDING", 3)
    monkeypatch.setattr(follow, "PAGE", 4)
    async with stage() as s:
        first = await s.submit()
        for _ in range(20):
            await s.submit()
        watch = s.scheduler.jobs.watch_all(ADA, ALL, first.sequence)
        told = [await anext(watch)]
        # Each page is read while two more jobs come: in all far more than are kept.
        while len(last_states(told)) < 20:
            await s.submit()
            await s.submit()
            told.append(await anext(watch))
        for _ in range(2):
            last = await s.submit()
            while last.job_id not in last_states(told):
                told.append(await anext(watch))
        await watch.aclose()


async def test_what_changed_while_nobody_read_comes_in_order() -> None:
    async with stage() as s:
        jobs = [await s.submit() for _ in range(6)]
        watch = s.scheduler.jobs.watch_all(ADA, ALL)
        await anext(watch)
        for job in [*jobs, *reversed(jobs[2:])]:
            await s.scheduler.jobs.pause(ADA, job.job_id)
            await s.scheduler.jobs.resume(ADA, job.job_id)
        told = await anext(watch)
        assert [job.job_id for job in told.jobs] == [job.job_id for job in [*jobs[:2], *reversed(jobs[2:])]]
        assert told.sequence == told.jobs[-1].sequence
        await watch.aclose()
