"""What a job has detached from itself, after the job's own process is dead; and what is none of the job's."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from support.fake_scheduler import FakeScheduler, listening
from support.hostile_handlers import TYPES
from support.worker_stage import alive, command, stage
from towpath.v1 import worker_pb2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans have a new parent of choice on Linux alone")


async def test_daemons_of_a_job_that_crashed_are_ended_and_an_inline_job_s_children_are_not(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "daemons", tmp_path / "children"
    async with listening(FakeScheduler()) as scheduler:
        flags = ["--server", scheduler.address, "--slots", "1", "--share", "tenant", "--max-table-bytes", "1G"]
        # None of these is reached, and together they are in nobody's way.
        flags += ["--max-memory", "4G", "--max-cpu-time", "100", "--max-open-files", "400", "--max-disk", "1G"]
        flags += ["--max-processes", "50"]
        async with command(tmp_path, *flags, module="support.hostile_handlers", allow=TYPES) as worker:
            inline = await scheduler.outcome(await scheduler.offer("h.inline_child", pids=str(ours)))
            assert inline.HasField("succeeded")
            crashed = await scheduler.outcome(await scheduler.offer("h.crash", pids=str(theirs)))
            assert crashed.failed.failure.type == "SIGSEGV"
            assert not alive(int(theirs.read_text()))
            child = int(ours.read_text())
            assert alive(child)
            os.kill(child, signal.SIGKILL)
            assert worker.returncode is None
            assert scheduler.registrations[-1].share == worker_pb2.WORKER_SHARE_TENANT


async def test_a_process_is_used_again_when_nothing_of_a_job_is_left_in_it(tmp_path: Path) -> None:
    async with stage(tmp_path, handlers=("support.hostile_handlers",), allow=TYPES) as (scheduler, _):

        async def process(job_type: str, **params: str) -> float:
            report = await scheduler.outcome(await scheduler.offer(job_type, **params))
            assert report.HasField("succeeded"), report
            return report.succeeded.result.custom.value.number_value

        tidied = [await process(job_type) for job_type in ("h.litter", "h.fine", "h.leak")]
        assert len(set(tidied)) == 1
        (kept := tmp_path / "kept").write_bytes(b"x")
        swapped = await process("h.swap", target=str(tmp_path))
        assert swapped not in tidied, "it has many files open"
        estranged = await process("h.estrange")
        assert estranged != swapped, "its folder for temporary files is a link"
        assert await process("h.fine") != estranged, "it may have orphans that it does not see"
        assert kept.exists(), "what a link points at is no temporary file"
