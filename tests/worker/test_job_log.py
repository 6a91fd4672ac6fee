"""The record of what ran here: a line for each event, whatever a name holds; never too large; the owner's alone."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

from support.worker_stage import stage
from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker.job_log import JobLog, Usage

NASTY = 'x"\r\n{"event":"end"}\u202e\x1b[31m\u2028\x00\u00e9'


def leased(number: int, user: str = "ann") -> worker_service_pb2.Lease:
    """A lease of a job that names files, and has a secret parameter."""
    job = job_pb2.Job(job_id=f"job_{number}", tenant="acme", user=user)
    job.train.data.path = f"/data/{user}.csv"
    job.train.target_column = "hidden-column"
    job.train.hyperparameters.update({"key": "hidden-value"})
    return worker_service_pb2.Lease(job=job, lease_token="hidden-token", attempt=2)


def lines(path: Path) -> list[dict[str, object]]:
    """What a file says; each line is JSON in ASCII."""
    return [json.loads(line) for line in path.read_bytes().decode("ascii").split("\n")[:-1]]


def test_a_line_says_what_ran_for_whom_and_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "jobs.log"
    failed = worker_service_pb2.Failed(failure=job_pb2.Failure(type=NASTY, message="hidden-message"))
    with closing(JobLog(path)) as log:
        log.started(leased(1, NASTY))
        log.ended(leased(1, NASTY), failed, 1.5, Usage(0.25, 4096))
        log.ended(leased(2), None, 0.1)
    start, end, abandoned = lines(path)
    named = {"job": "job_1", "type": "train", "tenant": "acme", "user": NASTY, "attempt": 2}
    assert start == {"time": start["time"], **named, "event": "start", "paths": [f"/data/{NASTY}.csv"]}
    used = {"seconds": 1.5, "cpu_seconds": 0.25, "peak_memory_bytes": 4096}
    assert end == {"time": end["time"], **named, "event": "end", "outcome": "failed", "error": NASTY, **used}
    assert abandoned["outcome"] == "abandoned"
    text = path.read_text()
    assert "hidden" not in text
    assert not set(text) & set(NASTY) & {"\r", "\x1b", "\x00", "\u202e", "\u2028"}
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_rotated_by_size_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "jobs.log"
    for number in range(40):
        with closing(JobLog(path, max_bytes=1000, keep=3)) as log:
            log.started(leased(number))
    kept = [path.with_name(f"jobs.log.{number}") for number in (3, 2, 1)]
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])
    assert all(one.stat().st_size <= 1000 for one in (path, *kept))
    found = [one["job"] for file in (*kept, path) for one in lines(file)]
    assert found == [f"job_{number}" for number in range(40 - len(found), 40)]
    assert len(found) > 8


async def test_inline_jobs_are_written_down_too(tmp_path: Path) -> None:
    async with stage(tmp_path, handlers=("support.inline_handlers",), allow=("i.where",)) as (scheduler, _):
        lease = await scheduler.offer("i.where", value=1)
        assert (await scheduler.outcome(lease)).HasField("succeeded")
    (line,) = lines(tmp_path / "jobs.log")
    assert (line["event"], line["outcome"], line["job"]) == ("end", "succeeded", lease.job.job_id)
