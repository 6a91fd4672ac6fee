"""Jobs in the worker's own process: by the batch, told like any other, stopped by their own will alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from support.fake_scheduler import FakeScheduler, is_outcome, listening
from support.worker_stage import RunningWorker, command, stage
from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker import inline, supervisor

MODULE = "support.inline_handlers"
TYPES = tuple(
    f"i.{name}"
    for name in ("where", "async", "talk", "say", "tell", "fail", "odd", "wait", "deaf", "meet", "large", "die")
)
CANCEL = worker_service_pb2.DIRECTIVE_TYPE_CANCEL
KILL = worker_service_pb2.DIRECTIVE_TYPE_KILL
ABANDON = worker_service_pb2.DIRECTIVE_TYPE_ABANDON
STOPPED = worker_service_pb2.RELEASE_REASON_STOPPED
UNABLE = worker_service_pb2.RELEASE_REASON_UNABLE


@asynccontextmanager
async def inline_stage(tmp_path: Path, **changes: Any) -> AsyncIterator[tuple[FakeScheduler, RunningWorker]]:
    given = {"handlers": (MODULE,), "allow": TYPES, "inline_slots": 40, **changes}
    async with stage(tmp_path, **given) as (scheduler, worker):
        yield scheduler, worker


def value(report: worker_service_pb2.Report) -> Any:
    assert report.HasField("succeeded"), report
    return json_format.MessageToDict(report.succeeded.result.custom.value)


def kinds(reports: list[worker_service_pb2.Report]) -> list[str | None]:
    return [one.WhichOneof("event") for one in reports]


async def test_they_run_here_by_the_batch_and_only_their_outcome_is_told(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        leases = [await scheduler.offer("i.where", value=number) for number in range(150)]
        coroutine = await scheduler.offer("i.async")
        told = [await scheduler.outcome(lease) for lease in leases]
        assert [value(one) for one in told] == [
            {"value": number, "pid": os.getpid(), "main": False} for number in range(150)
        ]
        assert value(await scheduler.outcome(coroutine)) == {"pid": os.getpid(), "main": True}
        assert all(kinds(scheduler.of(lease)) == ["succeeded"] for lease in leases)
        assert scheduler.registrations[0].slots == 40
        assert {poll.max_jobs for poll in scheduler.polls} <= set(range(1, 41))
        assert max(poll.max_jobs for poll in scheduler.polls) == 40


async def test_what_they_say_comes_before_their_outcome(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        lease = await scheduler.offer("i.talk")
        folder = value(await scheduler.outcome(lease))
        reports = scheduler.of(lease)
        assert kinds(reports)[0] == "started"
        assert kinds(reports)[-1] == "succeeded"
        assert scheduler.log(lease) == "a line\n"
        assert [one.progress.percent for one in reports if one.HasField("progress")][-1] == 100
        assert Path(folder).is_relative_to(tmp_path)
        assert not await asyncio.to_thread(Path(folder).exists)


@pytest.mark.parametrize("job_type", ["i.say", "i.tell"])
async def test_so_it_is_where_many_end_together(tmp_path: Path, job_type: str) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        async with scheduler.at_once():
            leases = [await scheduler.offer(job_type) for _ in range(30)]
        for lease in leases:
            assert (await scheduler.outcome(lease)).HasField("succeeded")
            assert kinds(scheduler.of(lease))[-1] == "succeeded"
            assert scheduler.log(lease) == "a line\n"


async def test_an_error_that_cannot_be_described_ends_its_job(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        for _ in range(3):
            told = await scheduler.outcome(await scheduler.offer("i.odd"))
            assert told.failed.failure.type == "Odd"
        assert value(await scheduler.outcome(await scheduler.offer("i.where", value=1)))["value"] == 1


async def test_a_failure_is_told_as_that_of_a_child_process_is(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        failure = (await scheduler.outcome(await scheduler.offer("i.fail"))).failed.failure
        assert (failure.type, failure.message, failure.retryable) == ("KeyError", "'the point'", True)
        assert "inline_handlers.py" in failure.traceback
        assert "towpath_worker" not in failure.traceback
        unbound = (await scheduler.outcome(await scheduler.offer("i.wait", paht="x"))).failed.failure
        assert unbound.cause == job_pb2.FAILURE_CAUSE_INVALID_INPUT
        assert "did you mean 'path'" in unbound.message


async def test_functions_that_block_hold_up_no_others(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        leases = [await scheduler.offer("i.meet") for _ in range(3)]
        assert sorted([value(await scheduler.outcome(lease)) for lease in leases]) == [0, 1, 2]


async def test_a_finished_job_is_told_of_though_a_long_one_follows(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        quick, long = await scheduler.offer("i.where"), await scheduler.offer("i.deaf", path=str(tmp_path / "go"))
        assert value(await scheduler.outcome(quick))
        (tmp_path / "go").touch()
        assert value(await scheduler.outcome(long)) == "seen"


async def test_the_start_of_a_long_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "LONG", 0.05)
    async with inline_stage(tmp_path) as (scheduler, _):
        lease = await scheduler.offer("i.deaf", path=str(tmp_path / "go"))
        await scheduler.until(lambda: kinds(scheduler.of(lease)) == ["started"])
        (tmp_path / "go").touch()
        assert value(await scheduler.outcome(lease)) == "seen"


async def test_a_cancel_is_asked_for_and_carried_out_by_the_handler(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        function = await scheduler.offer("i.wait", path=str(tmp_path / "never"))
        coroutine = await scheduler.offer("i.async", seconds=60)
        for lease, how in ((function, CANCEL), (coroutine, KILL)):
            await scheduler.said(lease, "ing")
            await scheduler.direct(how, lease, grace=60)
            assert (await scheduler.outcome(lease)).released.reason == STOPPED


async def test_what_cannot_be_killed_is_held_until_it_returns(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        lease = await scheduler.offer("i.deaf", path=str(tmp_path / "go"))
        await scheduler.until(lambda: scheduler.heartbeats and scheduler.heartbeats[-1].held_leases)
        await scheduler.direct(KILL, lease)
        beats = len(scheduler.heartbeats)
        await scheduler.until(lambda: len(scheduler.heartbeats) > beats + 2)
        assert [one.lease_token for one in scheduler.heartbeats[-1].held_leases] == [lease.lease_token]
        assert not scheduler.of(lease), "nobody else may run it yet"
        (tmp_path / "go").touch()
        assert value(await scheduler.outcome(lease)) == "seen"


async def test_of_an_abandoned_one_nothing_is_said(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        lease = await scheduler.offer("i.wait", path=str(tmp_path / "never"))
        await scheduler.said(lease, "waiting")
        before = len(scheduler.of(lease))
        await scheduler.direct(ABANDON, lease)
        await scheduler.until(lambda: not scheduler.heartbeats[-1].held_leases)
        await scheduler.outcome(await scheduler.offer("i.where"))
        assert len(scheduler.of(lease)) == before


async def test_a_result_too_large_for_a_message_goes_by_reference(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, _):
        told = await scheduler.outcome(await scheduler.offer("i.large", size=5_000_000))
        assert Path(told.succeeded.result.ref.path).is_relative_to(tmp_path)


async def test_while_too_much_is_not_acked_no_more_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MOST_OWED", 3)
    async with inline_stage(tmp_path, inline_slots=2) as (scheduler, _):
        scheduler.acks = False
        leases = [await scheduler.offer("i.where") for _ in range(12)]
        await scheduler.until(lambda: sum(map(is_outcome, scheduler.reports)) > 3)
        beats = len(scheduler.heartbeats)
        await scheduler.until(lambda: len(scheduler.heartbeats) > beats + 2)
        assert sum(map(is_outcome, scheduler.reports)) <= 6
        scheduler.acks = True
        scheduler.ack()
        for lease in leases:
            assert value(await scheduler.outcome(lease))


async def test_beside_child_processes_they_share_the_slots(tmp_path: Path) -> None:
    async with inline_stage(tmp_path, allow=("i.where", "i.child"), slots=2) as (scheduler, _):
        here, child = await scheduler.offer("i.where"), await scheduler.offer("i.child")
        assert value(await scheduler.outcome(here))["pid"] == os.getpid()
        assert value(await scheduler.outcome(child)) != os.getpid()
        assert scheduler.registrations[0].slots == 2
        assert max(poll.max_jobs for poll in scheduler.polls) == 2


async def test_a_drained_worker_finishes_them(tmp_path: Path) -> None:
    async with inline_stage(tmp_path) as (scheduler, worker):
        lease = await scheduler.offer("i.wait", path=str(tmp_path / "go"))
        await scheduler.said(lease, "waiting")
        worker.stop.set()
        await scheduler.until(lambda: scheduler.heartbeats[-1].draining)
        (tmp_path / "go").touch()
        assert value(await scheduler.outcome(lease)) == "seen"
        assert await worker.finished() == 0
        assert scheduler.deregistrations == 1


async def test_a_worker_that_must_leave_one_running_gives_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "INLINE_PATIENCE", 0.05)
    async with inline_stage(tmp_path) as (scheduler, worker):
        lease = await scheduler.offer("i.deaf", path=str(tmp_path / "go"))
        await scheduler.until(lambda: scheduler.heartbeats and scheduler.heartbeats[-1].held_leases)
        worker.release.set()
        assert await worker.finished() == 0
        assert not scheduler.of(lease)
        assert scheduler.deregistrations == 0, "it would run a second time while it runs"
        (tmp_path / "go").touch()


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
async def test_a_job_that_ends_the_worker_counts_as_lost_at_its_next_start(tmp_path: Path) -> None:
    async with listening(FakeScheduler()) as scheduler:
        flags = ("--server", scheduler.address)
        async with command(tmp_path, *flags, module=MODULE, allow=TYPES) as process:
            await scheduler.outcome(await scheduler.offer("i.where"))
            beats = len(scheduler.heartbeats)
            # The worker has taken in the ack: at its next start it holds only the next one.
            await scheduler.until(lambda: any(not beat.held_leases for beat in scheduler.heartbeats[beats:]))
            lease = await scheduler.offer("i.die")
            assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
        assert not scheduler.of(lease)
        async with command(tmp_path, *flags, module=MODULE, allow=TYPES) as process:
            assert (await scheduler.outcome(lease)).released.reason == UNABLE
            assert [one.lease_token for one in scheduler.registrations[-1].held_leases] == [lease.lease_token]
            process.send_signal(signal.SIGTERM)
            out, _ = await asyncio.wait_for(process.communicate(), 20)
            assert "slots        512" in out.decode()
