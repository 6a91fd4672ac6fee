"""Jobs in child processes: what they give back, what they say, how they end."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

from google.protobuf import json_format

from support.fake_scheduler import FakeScheduler
from support.worker_stage import alive, stage
from towpath.v1 import job_pb2, job_service_pb2, worker_service_pb2

CANCEL = worker_service_pb2.DIRECTIVE_TYPE_CANCEL
KILL = worker_service_pb2.DIRECTIVE_TYPE_KILL
STOPPED = worker_service_pb2.RELEASE_REASON_STOPPED


def value(report: worker_service_pb2.Report) -> object:
    assert report.HasField("succeeded"), report
    return json_format.MessageToDict(report.succeeded.result.custom.value)


async def test_a_warm_child_is_used_again_and_gives_whole_numbers_back(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        first = value(await scheduler.outcome(await scheduler.offer("t.add", x=2.0)))
        second = value(await scheduler.outcome(await scheduler.offer("t.add", x=5)))
        assert isinstance(first, dict)
        assert isinstance(second, dict)
        assert (first["sum"], second["sum"], first["exact"]) == (3, 6, True)
        assert first["pid"] == second["pid"]


async def test_a_child_is_replaced_after_its_share_of_jobs(tmp_path: Path) -> None:
    async with stage(tmp_path, max_tasks_per_child=1) as (scheduler, _):
        # The first child works on until the second one is warm.
        first = value(await scheduler.outcome(await scheduler.offer("t.add", x=1)))
        while value(await scheduler.outcome(await scheduler.offer("t.add", x=1))) == first:
            pass


async def test_progress_and_logs_arrive_with_their_offsets(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        lease = await scheduler.offer("t.talk")
        await scheduler.outcome(lease)
        reports = scheduler.of(lease)
        assert reports[0].HasField("started")
        progress = [one.progress for one in reports if one.HasField("progress")]
        assert progress[-1].percent == 100
        assert progress[-1].metrics["loss"] == 0.5
        assert progress[-1].phase == "fit"
        assert len(progress) < 20, "newer progress replaces older"
        by_stream: dict[int, str] = {}
        for report in reports:
            if report.HasField("log"):
                by_stream[report.log.stream] = by_stream.get(report.log.stream, "") + report.log.text
        assert by_stream[job_service_pb2.LOG_STREAM_STDOUT] == "hä?\nno end of line"
        assert by_stream[job_service_pb2.LOG_STREAM_STDERR] == "from a child"
        assert by_stream[job_service_pb2.LOG_STREAM_LOG] == "a line\n"
        assert len(scheduler.log(lease)) == sum(map(len, by_stream.values())), "offsets join without gap or overlap"


async def test_a_raised_exception_is_a_failure_with_its_traceback(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        failure = (await scheduler.outcome(await scheduler.offer("t.fail"))).failed.failure
        assert (failure.cause, failure.type, failure.retryable) == (job_pb2.FAILURE_CAUSE_HANDLER, "KeyError", True)
        assert "the point" in failure.message
        assert "worker_handlers.py" in failure.traceback
        assert "towpath_worker" not in failure.traceback


async def test_all_wrong_parameters_are_named_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        failure = (await scheduler.outcome(await scheduler.offer("t.add", yy=1, y=1.5))).failed.failure
        assert failure.cause == job_pb2.FAILURE_CAUSE_INVALID_INPUT
        assert not failure.retryable
        for word in ("'yy' (did you mean 'y'?)", "'y' must be a whole number", "'x' is missing"):
            assert word in failure.message


async def test_a_crash_fails_the_job_and_not_the_worker(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        crash, leave = await scheduler.offer("t.crash"), await scheduler.offer("t.exit")
        failure = (await scheduler.outcome(crash)).failed.failure
        assert (failure.cause, failure.type) == (job_pb2.FAILURE_CAUSE_PROCESS_DIED, "SIGSEGV")
        assert failure.retryable
        assert "Segmentation fault" in scheduler.log(crash)
        assert "worker_handlers.py" in failure.traceback
        assert "Extension modules" not in failure.traceback
        assert "exit code 7" in (await scheduler.outcome(leave)).failed.failure.message
        assert value(await scheduler.outcome(await scheduler.offer("t.add", x=1)))


async def test_kill_ends_the_whole_tree_of_a_job_that_hears_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        assert (await _stop_deaf(scheduler, KILL, 60)) == STOPPED
        assert value(await scheduler.outcome(await scheduler.offer("t.add", x=1)))


async def test_a_job_that_ignores_cancel_is_killed_after_the_grace(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        assert (await _stop_deaf(scheduler, CANCEL, 0.2)) == STOPPED


async def _stop_deaf(
    scheduler: FakeScheduler, how: worker_service_pb2.DirectiveType.ValueType, grace: float
) -> worker_service_pb2.ReleaseReason.ValueType:
    lease = await scheduler.offer("t.deaf")
    line = (await scheduler.said(lease, "\n")).split()
    pids = [int(word) for word in line[1:]]
    assert all(map(alive, pids))
    await scheduler.direct(how, lease, grace)
    outcome = await scheduler.outcome(lease)
    assert not any(map(alive, pids))
    return outcome.released.reason


async def test_cancel_asks_and_the_handler_stops_by_itself(tmp_path: Path) -> None:
    async with stage(tmp_path, slots=2) as (scheduler, _):
        plain = await scheduler.offer("t.wait", path=str(tmp_path / "never"))
        coroutine = await scheduler.offer("t.async", seconds=60)
        for lease in (plain, coroutine):
            await scheduler.said(lease, "ing")
            await scheduler.direct(CANCEL, lease, grace=60)
            assert (await scheduler.outcome(lease)).released.reason == STOPPED


async def test_a_result_too_large_for_a_message_goes_by_reference(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        size = 5_000_000
        reference = (await scheduler.outcome(await scheduler.offer("t.large", size=size))).succeeded.result.ref
        content = await asyncio.to_thread(Path(reference.path).read_bytes)
        assert Path(reference.path).is_relative_to(tmp_path)
        assert reference.sha256 == hashlib.sha256(content).hexdigest()
        assert reference.size_bytes == len(content)
        assert len(json.loads(content)["custom"]["value"]) == size


async def test_a_flood_of_output_is_bounded_and_the_job_ends(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, _):
        lease = await scheduler.offer("t.flood", size=20_000_000)
        assert value(await scheduler.outcome(lease)) == 20_000_000
        log = scheduler.log(lease)
        assert len(log) < 17_000_000
        assert "bytes of output dropped" in log


async def test_a_process_that_a_job_leaves_behind_is_ended(tmp_path: Path) -> None:
    async with stage(tmp_path) as (scheduler, worker):
        left = value(await scheduler.outcome(await scheduler.offer("t.leftover")))
        assert isinstance(left, float)
        worker.stop.set()
        await worker.finished()
        assert not alive(int(left))
