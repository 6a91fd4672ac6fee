"""The jobs at the end of a run: as the API lists them, and as they lie in the store."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from support.history import Stored
from support.submitters import result_of, state_of
from towpath import Client
from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.ids import show

JOBS = """
SELECT job_id, request_id, state, revision, attempt, attempt_count, lost_count, result, lease_time IS NOT NULL,
sequence
FROM jobs JOIN definitions USING (job_id)
"""
ATTEMPTS = "SELECT job_id, number, outcome FROM attempts"


def listed(client: Client) -> list[Stored]:
    """All jobs as the API tells them; it tells neither request ids nor, in lists, attempts."""
    request = job_service_pb2.ListJobsRequest(page_size=500, view=job_pb2.JOB_VIEW_FULL)
    connection = client._connection
    return [
        Stored(
            job_id=job.job_id,
            request_id="",
            state=state_of(job),
            revision=int(job.etag),
            attempt=job.attempt,
            attempt_count=job.attempt_count,
            lost_count=job.lost_count,
            result=result_of(job),
        )
        for page in connection.pages(connection.stubs.jobs.ListJobs, request)
        for job in page.jobs
    ]


def on_disk(path: Path) -> list[Stored]:
    """All jobs of a store that nobody has open, by SQL of our own."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as store:
        return _read(store.execute)


def in_database(url: str) -> list[Stored]:
    """The same of a store on PostgreSQL."""
    from support.postgres import psycopg

    with psycopg.connect(url) as store:
        return _read(store.execute)


def _read(execute: Callable[..., Iterable[tuple[Any, ...]]]) -> list[Stored]:
    outcomes: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for job_id, number, outcome in execute(ATTEMPTS):
        outcomes[job_id].append((number, job_pb2.AttemptOutcome.Name(outcome).removeprefix("ATTEMPT_OUTCOME_")))
    return [_stored(outcomes[row[0]], *row) for row in list(execute(JOBS))]


def _stored(
    past: list[tuple[int, str]],
    job_id: int,
    request_id: str,
    state: int,
    revision: int,
    attempt: int,
    attempt_count: int,
    lost_count: int,
    result: bytes | None,
    delivered: int,
    sequence: int,
) -> Stored:
    name = job_pb2.JobState.Name(job_pb2.JobState.ValueType(state)).removeprefix("JOB_STATE_")
    run = job_pb2.JobResult.FromString(result).custom.value.string_value if result else ""
    # The attempt that ended the job is told by the job itself, in place of what was noted when it seemed lost.
    last = {attempt: name} if delivered else {}
    outcomes = tuple(sorted({**dict(past), **last}.items()))
    return Stored(
        show("job", job_id), request_id, name, revision, attempt, attempt_count, lost_count, run, outcomes, sequence
    )
