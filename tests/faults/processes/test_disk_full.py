"""A real scheduler on a real disk that fills up: on a file system in memory, where this user may mount one."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from support import processes
from support.processes import Scheduler
from support.small_disk import again_inside, may_mount, small_disk
from towpath import Client, JobHandle, JobState, requests
from towpath.errors import ResourceExhausted
from towpath.v1 import job_service_pb2

MIB = 1 << 20
# The write-ahead log is moved into the file at 32 MiB, which this disk has no room for: that fails too.
CHECKPOINT = 8000 * 4096
DISK, ROOM = 72 * MIB, 44 * MIB
LARGE = MIB
JOB_TYPES = ("--handlers", "support.job_types", "--allow", "test.gate,test.echo")


def test_line_15_a_full_disk_loses_nothing_and_passes_without_a_restart(tmp_path: Path) -> None:
    if may_mount():
        with small_disk(tmp_path / "disk", DISK) as disk:
            fill_and_free(disk, tmp_path)
        return
    again_inside(__file__)


def fill_and_free(disk: Path, folder: Path) -> None:
    """The test itself, on a disk of its own."""
    pipe, ballast = folder / "gate", disk / "ballast"
    os.mkfifo(pipe)
    ballast.write_bytes(bytes(DISK - ROOM))
    words = processes.scheduler_words(folder, "--listen", "127.0.0.1:0")
    words[words.index("--store") + 1] = f"sqlite:///{disk / 'towpath.db'}"
    with (
        processes.start(words, folder, processes.clean()) as (process, address),
        processes.worker(at := Scheduler(address, folder / "config", process), folder / "worker", *JOB_TYPES),
        Client(at.address, at.token) as client,
    ):
        gate = client.submit("test.gate", {"path": str(pipe)})
        until_it_runs(gate)
        watched: list[JobState] = []
        watcher = threading.Thread(target=lambda: watched.extend(event.state for event in gate))
        watcher.start()
        kept = until_full(client)
        assert (disk / "towpath.db-wal").stat().st_size > CHECKPOINT
        # Whoever reads goes on, and what waits keeps its place.
        assert gate.refresh().state is JobState.RUNNING
        assert {job.job_id for job in client.jobs()} == {gate.job_id, *kept}
        assert client.stats().by_state[JobState.QUEUED] == len(kept)
        # A job ends meanwhile: its worker keeps what it cannot tell.
        pipe.write_text("through", encoding="utf-8")
        log = folder / "worker" / "towpath_worker.log"
        while "The store's disk is full" not in log.read_text(encoding="utf-8"):
            with pytest.raises(ResourceExhausted):
                submit(client, LARGE)
        assert gate.refresh().state is JobState.RUNNING
        assert watcher.is_alive()
        ballast.unlink()
        assert gate.result(timeout=60) == "through"
        watcher.join(timeout=60)
        assert watched[-1] is JobState.SUCCEEDED
        assert client.submit("test.echo", {"value": 1}).result(timeout=60) == 1
        assert process.poll() is None
        assert (gate.refresh().attempt, gate.job.lost_count) == (1, 0)
    with closing(sqlite3.connect(disk / "towpath.db")) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert store.execute("SELECT count(*) FROM jobs").fetchone() == (len(kept) + 2,)


def until_it_runs(job: JobHandle) -> None:
    for event in job:
        if event.state is JobState.RUNNING:
            return


def until_full(client: Client) -> set[str]:
    """Submit until large and small jobs are refused: those that were acknowledged."""
    kept: set[str] = set()
    for size in (LARGE, 1):
        try:
            for _ in range(1000):
                kept.add(submit(client, size))
        except ResourceExhausted as full:
            assert "disk is full" in str(full)  # noqa: PT017 - what came before counts too
            assert full.retry_after  # noqa: PT017
        else:
            raise AssertionError("nothing was ever refused")
    return kept


def submit(client: Client, size: int) -> str:
    """A job that no worker here takes, sent once."""
    create = requests.create(requests.job_of("test.nobody", {"much": "x" * size}), {})
    create.request_id = os.urandom(8).hex()
    stub = client._connection.stubs.jobs.CreateJob
    answer: job_service_pb2.CreateJobResponse = client._connection.call(stub, create, retry=False, timeout=30)
    return answer.job.job_id
