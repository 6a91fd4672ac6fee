"""The worker's session: breaks, lost answers, unknown sessions, restarts. No report is lost, no job run twice."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from pathlib import Path

import pytest

from support.fake_scheduler import WORKER_ID, FakeScheduler, contiguous, is_outcome, listening
from support.worker_stage import settings_for, stage, working
from towpath.v1 import worker_service_pb2
from towpath_worker.refusals import Refused
from towpath_worker.runtime import run_worker
from towpath_worker.state import StateFolderTaken

ABANDON = worker_service_pb2.DIRECTIVE_TYPE_ABANDON
CANCEL = worker_service_pb2.DIRECTIVE_TYPE_CANCEL
DRAIN = worker_service_pb2.DIRECTIVE_TYPE_DRAIN
REREGISTER = worker_service_pb2.DIRECTIVE_TYPE_REREGISTER


def held(leases: list[worker_service_pb2.HeldLease]) -> list[str]:
    return [one.lease_token for one in leases]


async def test_it_registers_with_what_it_is_and_beats_with_what_it_holds(tmp_path: Path) -> None:
    async with stage(tmp_path, name="ann's laptop", labels={"room": "3"}) as (scheduler, _):
        lease = await scheduler.offer("t.wait", path=str(tmp_path / "go"))
        await scheduler.until(lambda: scheduler.heartbeats and held(list(scheduler.heartbeats[-1].held_leases)))
        first = scheduler.registrations[0]
        assert (first.name, dict(first.labels), first.slots) == ("ann's laptop", {"room": "3"}, 1)
        assert "t.add" in first.job_types
        assert first.machine.cpu_count >= 1
        assert first.machine.memory_mb > 0
        assert scheduler.heartbeats[-1].load.free_slots == 0
        (tmp_path / "go").touch()
        await scheduler.outcome(lease)
        assert (tmp_path / "worker_id").read_text().strip() == WORKER_ID


async def test_a_broken_stream_goes_on_after_the_last_ack(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        scheduler.acks = False
        lease = await scheduler.offer("t.add", x=1)
        await scheduler.outcome(lease)
        unacked = list(scheduler.sequences[-1])
        scheduler.reports.clear()
        scheduler.acks = True
        scheduler.break_streams()
        await scheduler.outcome(lease)
        again = scheduler.sequences[-1][len(unacked) :]
        assert again == unacked, "the same reports under the same numbers"
        later = await scheduler.offer("t.add", x=2)
        await scheduler.outcome(later)
        assert all(contiguous(scheduler.sequences[-1][len(unacked) :]))
        assert len(scheduler.registrations) == 1


async def test_a_lost_answer_is_asked_for_again_under_the_same_poll_id(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        scheduler.lost_answers = 1
        lease = await scheduler.offer("t.add", x=1)
        await scheduler.outcome(lease)
        assert scheduler.polls[0].poll_id == scheduler.polls[1].poll_id
        await scheduler.outcome(await scheduler.offer("t.add", x=1))
        assert scheduler.polls[2].poll_id != scheduler.polls[1].poll_id


async def test_a_lease_that_comes_twice_is_run_once(tmp_path: Path) -> None:
    async with stage(tmp_path, slots=2) as (scheduler, _):
        lease = await scheduler.offer("t.wait", path=str(tmp_path / "go"))
        await scheduler.said(lease, "waiting")
        await scheduler.offer_again(lease)
        await scheduler.outcome(await scheduler.offer("t.add", x=1))
        (tmp_path / "go").touch()
        await scheduler.outcome(lease)
        await scheduler.outcome(await scheduler.offer("t.add", x=1))
        assert sum(one.HasField("started") for one in scheduler.of(lease)) == 1
        assert sum(map(is_outcome, scheduler.of(lease))) == 1


async def test_after_a_lost_session_the_running_job_goes_on(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        lease = await scheduler.offer("t.wait", path=str(tmp_path / "go"))
        await scheduler.said(lease, "waiting")
        scheduler.forget()
        second = await scheduler.until(lambda: scheduler.registrations[1:])
        assert second[0].worker_id == WORKER_ID
        assert held(list(second[0].held_leases)) == [lease.lease_token]
        (tmp_path / "go").touch()
        assert (await scheduler.outcome(lease)).HasField("succeeded")
        assert scheduler.sequences[-1][0] == 1, "numbered anew in the new session"
        assert sum(one.HasField("started") for one in scheduler.of(lease)) == 1


async def test_told_to_register_again_it_does(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        await scheduler.until(lambda: scheduler.heartbeats)
        await scheduler.direct(REREGISTER)
        await scheduler.until(lambda: scheduler.registrations[1:])


async def test_an_abandoned_job_is_killed_and_not_spoken_of(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        lease = await scheduler.offer("t.deaf")
        await scheduler.said(lease, "pids")
        await scheduler.direct(ABANDON, lease)
        await scheduler.outcome(await scheduler.offer("t.add", x=1))
        assert not any(map(is_outcome, scheduler.of(lease)))
        assert lease.lease_token not in held(list(scheduler.heartbeats[-1].held_leases))


async def test_a_cancel_that_overtakes_its_lease_is_obeyed(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        probe = await scheduler.offer("t.add", x=1)
        await scheduler.outcome(probe)
        lease = worker_service_pb2.Lease(job=probe.job, lease_token="another", attempt=2)
        await scheduler.direct(CANCEL, lease, grace=60)
        await scheduler.until(lambda: len(scheduler.heartbeats) > 3)
        await scheduler.offer_again(lease)
        outcome = await scheduler.outcome(lease)
        assert outcome.released.reason == worker_service_pb2.RELEASE_REASON_STOPPED
        assert [one.WhichOneof("event") for one in scheduler.of(lease)] == ["released"]


async def test_an_outcome_survives_a_restart_of_the_worker(tmp_path: Path) -> None:
    async with listening(FakeScheduler()) as scheduler:
        scheduler.acks = False
        async with working(scheduler, tmp_path, last_words=0.0):
            lease = await scheduler.offer("t.talk")
            await scheduler.outcome(lease)
        log = scheduler.log(lease)
        scheduler.reports.clear()
        scheduler.acks = True
        async with working(scheduler, tmp_path):
            assert (await scheduler.outcome(lease)).HasField("succeeded")
            assert scheduler.log(lease) == log
            assert held(list(scheduler.registrations[-1].held_leases)) == [lease.lease_token]
            assert scheduler.registrations[-1].worker_id == WORKER_ID


async def test_a_drained_worker_finishes_what_it_runs_and_leaves(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, worker):
        lease = await scheduler.offer("t.wait", path=str(tmp_path / "go"))
        await scheduler.said(lease, "waiting")
        await scheduler.direct(DRAIN)
        (tmp_path / "go").touch()
        assert (await scheduler.outcome(lease)).HasField("succeeded")
        assert await worker.finished() == 0
        assert scheduler.deregistrations == 1


async def test_run_once_runs_one_job(tmp_path: Path) -> None:
    async with stage(tmp_path, slots=2, run_once=True) as (scheduler, worker):
        first, second = await scheduler.offer("t.add", x=1), await scheduler.offer("t.add", x=1)
        assert await worker.finished() == 0
        assert scheduler.of(first)
        assert not scheduler.of(second)


async def test_a_wrong_token_ends_it_at_the_start_with_a_clear_word(tmp_path: Path) -> None:
    async with listening(FakeScheduler()) as scheduler:
        scheduler.token = "right"
        with pytest.raises(Refused, match="does not take this token"):
            await run_worker(settings_for(scheduler, tmp_path, token="wrong"), stop=asyncio.Event())
        async with working(scheduler, tmp_path, token="right"):
            await scheduler.until(lambda: scheduler.registrations)


async def test_it_waits_for_a_scheduler_that_is_not_there_yet(tmp_path: Path) -> None:
    async with listening(FakeScheduler()) as gone:
        port = int(gone.address.rpartition(":")[2])
    async with working(gone, tmp_path), listening(FakeScheduler(), port) as scheduler:
        await scheduler.until(lambda: scheduler.heartbeats)


async def test_it_runs_in_the_event_loop_of_another_thread(tmp_path: Path) -> None:
    async with listening(FakeScheduler()) as scheduler:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def work() -> int:
            stop = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stop))
            return await run_worker(settings_for(scheduler, tmp_path), stop=stop)

        working = asyncio.create_task(asyncio.to_thread(asyncio.run, work()))
        await scheduler.outcome(await scheduler.offer("t.add", x=1))
        loop, stop = started.result()
        loop.call_soon_threadsafe(stop.set)
        assert await working == 0


async def test_two_workers_never_share_a_state_folder(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        await scheduler.until(lambda: scheduler.registrations)
        with pytest.raises(StateFolderTaken, match="--state-dir"):
            await run_worker(settings_for(scheduler, tmp_path), stop=asyncio.Event())
