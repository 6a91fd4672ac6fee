"""Lines 29 and 30 of the catalogue: a worker ends all that a job has started, and outlives what a job takes."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from support.fake_scheduler import FakeScheduler
from support.hostile_handlers import MIB, TYPES
from support.worker_stage import alive, stage
from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker import procs
from towpath_worker.state import JOB_LOG, StateFolder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells what a job's processes use")

MODULE = ("support.hostile_handlers",)


async def fine(scheduler: FakeScheduler) -> None:
    """The worker runs the next job."""
    report = await scheduler.outcome(await scheduler.offer("h.fine"))
    assert json_format.MessageToDict(report.succeeded.result.custom.value), report


def numbers(path: Path) -> list[int]:
    """The processes that a job has written down."""
    return [int(word) for word in path.read_text(encoding="utf-8").split()] if path.exists() else []


async def test_line_29_nothing_is_left_of_a_job_that_ignores_its_cancel_in_native_code(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with stage(tmp_path / "state", handlers=MODULE, allow=TYPES) as (scheduler, _):
        lease = await scheduler.offer("h.deaf", pids=str(pids))
        own = int((await scheduler.said(lease, "\n")).split()[1])
        assert len(numbers(pids)) == 4
        assert all(map(alive, (own, *numbers(pids))))
        await scheduler.direct(worker_service_pb2.DIRECTIVE_TYPE_CANCEL, lease, grace=0.2)
        outcome = await scheduler.outcome(lease)
        assert outcome.released.reason == worker_service_pb2.RELEASE_REASON_STOPPED
        assert not [pid for pid in (own, *numbers(pids)) if alive(pid)]
        await fine(scheduler)


async def test_line_30_a_job_that_takes_too_much_fails_and_the_worker_goes_on(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    # Half of it is among the temporary files, half elsewhere: where that is memory, the first must be enough.
    size = (24 if on_disk(elsewhere) else 40) * MIB
    hostile: dict[str, tuple[str, str, dict[str, Any]]] = {
        "h.memory": ("MEMORY_LIMIT", "256 MiB of memory", {"size": 400 * MIB}),
        "h.reserve": ("MEMORY_LIMIT", "--max-memory", {"size": 16_384 * MIB}),
        "h.disk": ("DISK_LIMIT", "16 MiB of disk", {"folder": str(elsewhere), "size": size}),
        "h.large_file": ("DISK_LIMIT", "--max-disk", {"size": 24 * MIB}),
        "h.descriptors": ("OPEN_FILES_LIMIT", "100 open files", {}),
        "h.cpu": ("CPU_TIME_LIMIT", "0.5 seconds of CPU time", {}),
        "h.bomb": ("PROCESSES_LIMIT", "12 processes", {}),
    }
    given: dict[str, Any] = {
        "max_memory": "256M",
        "max_disk": "16M",
        "max_open_files": 100,
        "max_cpu_time": 0.5,
        "max_processes": 12,
    }
    async with stage(tmp_path / "state", handlers=MODULE, allow=TYPES, slots=2, **given) as (scheduler, worker):
        leases = {name: await scheduler.offer(name, **params) for name, (_, _, params) in hostile.items()}
        for name, (kind, words, _) in hostile.items():
            failure = (await scheduler.outcome(leases[name])).failed.failure
            assert (failure.type, failure.retryable) == (kind, False), (name, failure)
            assert failure.cause == job_pb2.FAILURE_CAUSE_PROCESS_DIED
            assert words in failure.message, name
        await fine(scheduler)
        worker.stop.set()
        await worker.finished()
    told = [json.loads(line) for line in (tmp_path / "state" / JOB_LOG).read_text(encoding="ascii").splitlines()]
    ended = {one["type"]: one for one in told if one["event"] == "end"}
    assert {name: ended[name]["error"] for name in hostile} == {name: kind for name, (kind, _, _) in hostile.items()}
    assert ended["h.memory"]["peak_memory_bytes"] > 256 * MIB
    assert ended["h.cpu"]["cpu_seconds"] > 0.5
    assert ended["h.fine"]["outcome"] == "succeeded"
    assert not temporary_files(tmp_path / "state"), "temporary files are left"


def on_disk(folder: Path) -> bool:
    """Whether the system counts what is written there."""
    before = procs.written([os.getpid()])
    (folder / "probe").write_bytes(bytes(MIB))
    return procs.written([os.getpid()]) > before


def temporary_files(state_dir: Path) -> list[Path]:
    """The folders for those, of the worker on this state folder."""
    with closing(StateFolder(state_dir)) as state:
        return list(Path(tempfile.gettempdir()).glob(f"towpath-{state.mark[:12]}-*"))
