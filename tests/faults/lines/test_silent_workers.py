"""Lines 7 and 9 of the catalogue with the real programs: a worker behind a dead network, and one that slept."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from support import processes
from support.line import SOON
from support.proxy import proxy
from towpath import AsyncClient, AsyncJobHandle

# Short, so that it ends while a test looks.
LEASE = 2.0
QUICK = ("--lease-ttl", str(LEASE), "--heartbeat-interval", "0.5")
JOB_TYPES = ("--handlers", "support.job_types", "--allow", "test.gate")
# What the promise allows beyond the lease, and what a busy machine is forgiven here; `make soak` forgives nothing.
NOTICED, FORGIVEN = 2.0, 20.0


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe at which a job waits."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


async def until_running(job: AsyncJobHandle) -> None:
    async for event in job:
        if event.progress is not None and event.progress.percent:
            return


async def until_lost(job: AsyncJobHandle) -> None:
    async for event in job:
        assert not event.is_final, event
        if event.lost_count:
            return


async def through(job: AsyncJobHandle, gate: Path) -> None:
    """Open the gate: the job's result is what was written there."""
    await asyncio.to_thread(gate.write_text, "through", encoding="utf-8")
    assert await job.result(timeout=SOON, progress=False) == "through"
    assert (job.job.attempt, job.job.attempt_count, job.job.lost_count) == (1, 1, 0)


async def test_line_07_a_half_open_worker_is_noticed_within_its_lease_and_comes_back(
    tmp_path: Path, gate: Path
) -> None:
    with processes.scheduler(tmp_path, *QUICK) as at:
        async with proxy(at.address) as network, AsyncClient(at.address, at.token) as client:
            job = await client.submit("test.gate", {"path": str(gate)})
            beyond = processes.worker(replace(at, address=network.address), tmp_path / "worker", *JOB_TYPES)
            # In a thread: the network runs in this one.
            await asyncio.to_thread(beyond.__enter__)
            try:
                await until_running(job)
                [worker] = await client.workers()
                assert worker.heartbeat_time is not None
                swallowed = datetime.now(UTC)
                network.swallow()
                await until_lost(job)
                [lost] = await job.attempts()
                assert lost.end_time is not None
                # By the scheduler's own book: not before the lease was over, and soon after.
                assert lost.end_time - worker.heartbeat_time >= timedelta(seconds=LEASE)
                assert lost.end_time - swallowed <= timedelta(seconds=LEASE + NOTICED + FORGIVEN)
                network.heal()
                await until_running_again(job)
                await through(job, gate)
            finally:
                network.heal()
                await asyncio.to_thread(beyond.__exit__, None, None, None)


async def until_running_again(job: AsyncJobHandle) -> None:
    """Wait until the worker has taken the job up again: the loss is no loss any more."""
    async for event in job:
        if not event.lost_count:
            return


async def test_line_09_a_worker_whose_machine_slept_goes_on_with_its_job(tmp_path: Path, gate: Path) -> None:
    with processes.scheduler(tmp_path, *QUICK) as at, processes.worker(at, tmp_path / "worker", *JOB_TYPES) as worker:
        async with AsyncClient(at.address, at.token) as client:
            job = await client.submit("test.gate", {"path": str(gate)})
            await until_running(job)
            machine = psutil.Process(worker.pid)
            programs = [machine, *machine.children(recursive=True)]
            for program in programs:
                program.send_signal(signal.SIGSTOP)
            try:
                await until_lost(job)
            finally:
                for program in reversed(programs):
                    program.send_signal(signal.SIGCONT)
            await until_running_again(job)
            await through(job, gate)
            assert [attempt.outcome.name for attempt in await job.attempts()] == ["SUCCEEDED"]
