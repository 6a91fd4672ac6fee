"""Lines 15 to 17 of the catalogue: what the disk does, what the file is, and what a copy of it holds."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from support import processes
from support.rpc_stage import Stage, reason_of, stage, status_of
from towpath.v1 import job_service_pb2, queue_service_pb2
from towpath_server.core.ids import show
from towpath_server.store.sqlite import SqliteStore, snapshot

# Line 15: the disk is full.


async def test_line_15_on_a_full_disk_submits_are_refused_reads_go_on_and_it_recovers(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "towpath.db")
    async with stage(store) as at:
        first = await at.create()
        watch: Any = at.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=at.bearer())
        assert not (await watch.read()).events
        # The writer's own limit, which every commit meets.
        writer = store._connection
        writer.execute(f"PRAGMA max_page_count = {writer.value('PRAGMA page_count') + 20}")
        kept, refused = await until_full(at)
        status = status_of(refused)
        assert reason_of(refused) == "STORE_FULL"
        assert "free some space" in status.message
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.seconds > 0
        # What reads goes on.
        assert await listed(at) == {first.job_id, *kept.values()}
        await at.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=first.job_id), metadata=at.bearer())
        await at.queues.ListQueues(queue_service_pb2.ListQueuesRequest(), metadata=at.bearer())
        told: set[str] = set()
        while told < set(kept.values()):
            told |= {event.job.job_id for event in (await watch.read()).events}
        assert told == set(kept.values())
        # There is room again: the same scheduler takes what it refused.
        writer.execute("PRAGMA max_page_count = 1000000")
        again = await create(at, f"request {len(kept)}")
        assert again not in kept.values()
        assert await create(at, "request 0") == kept["request 0"]
        assert await listed(at) == {first.job_id, again, *kept.values()}
        watch.cancel()


async def until_full(at: Stage) -> tuple[dict[str, str], grpc.aio.AioRpcError]:
    """Submit until it is refused: the acknowledged jobs by request, and the refusal."""
    kept: dict[str, str] = {}
    for number in range(100):
        try:
            kept[f"request {number}"] = await create(at, f"request {number}")
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017 - all of it is looked at later
            return kept, error
    raise AssertionError("100 large jobs went onto a full disk")


async def create(at: Stage, request_id: str) -> str:
    request = job_service_pb2.CreateJobRequest()
    request.job.custom.type = "echo"
    request.request_id = request_id
    request.job.custom.params.update({"much": "x" * 20_000})
    return (await at.jobs.CreateJob(request, metadata=at.bearer())).job.job_id


async def listed(at: Stage) -> set[str]:
    request = job_service_pb2.ListJobsRequest(page_size=1000)
    return {job.job_id for job in (await at.jobs.ListJobs(request, metadata=at.bearer())).jobs}


# Line 16: the file is not what it should be. Every kind of damage is in tests/store/test_migrations.py.


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [(60, b"\x00\x00\xff\xff", "Start that version again"), (0, b"not SQLite", "restore a backup")],
    ids=["newer", "corrupt"],
)
def test_line_16_the_program_refuses_a_corrupt_or_newer_file_and_says_what_to_do(
    tmp_path: Path, place: int, value: bytes, words: str
) -> None:
    path = tmp_path / "towpath.db"
    SqliteStore(path).close()
    with path.open("r+b") as file:
        file.seek(place)
        file.write(value)
    before = path.read_bytes()
    command = processes.scheduler_words(tmp_path, "--listen", "127.0.0.1:0")
    done = subprocess.run(command, env=processes.clean(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == before


# Line 17: a backup under load. The real programs are in tests/faults/processes/test_backup.py.


async def test_line_17_a_copy_taken_under_load_holds_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    path = tmp_path / "towpath.db"
    async with stage(SqliteStore(path)) as at:
        acknowledged: list[str] = []

        async def submit() -> None:
            while True:
                acknowledged.append(await create(at, ""))

        load = [asyncio.create_task(submit()) for _ in range(8)]
        for number in range(5):
            while len(acknowledged) < 20 * number:  # noqa: ASYNC110 - the load itself makes it grow
                await asyncio.sleep(0)  # a turn, not a time
            before = set(acknowledged)
            copied = tmp_path / f"{number}.sqlite"
            found = await asyncio.to_thread(snapshot.take, path, copied)
            assert found.jobs >= len(before)
            restored = SqliteStore(copied)
            assert before <= {show("job", row[0]) for row in restored._connection.rows("SELECT job_id FROM jobs")}
            restored.close()
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
