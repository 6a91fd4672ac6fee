"""Each timeout ends its job, and the worker lives on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import processes
from towpath import Client
from towpath.job_errors import JobTimedOut


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timeouts")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with (
        processes.scheduler(folder) as at,
        processes.worker(
            at, folder / "worker", "--handlers", "support.job_types", "--allow", "test.echo,test.gate", "--slots", "2"
        ),
        Client(at.address, at.token) as client,
    ):
        yield client


@pytest.mark.parametrize("timeout", ["execution_timeout", "stall_timeout", "total_timeout"])
def test_a_running_job_that_takes_too_long_is_killed(client: Client, folder: Path, timeout: str) -> None:
    pipe = folder / timeout
    os.mkfifo(pipe)
    limits: dict[str, Any] = {timeout: 1.5}
    job = client.submit("test.gate", {"path": str(pipe)}, **limits)
    with pytest.raises(JobTimedOut, match=timeout):
        job.result(timeout=30)
    assert client.submit("test.echo", {"value": 1}).result(timeout=30) == 1


def test_a_job_that_no_worker_takes_leaves_its_queue(client: Client) -> None:
    job = client.submit("test.nobody", queue_timeout=0.5)
    with pytest.raises(JobTimedOut, match="queue_timeout"):
        job.result(timeout=30)


def test_a_timeout_is_tried_again_where_the_policy_says_so(client: Client, folder: Path) -> None:
    from towpath import RetryPolicy

    pipe = folder / "again"
    os.mkfifo(pipe)
    policy = RetryPolicy(max_attempts=2, initial_backoff=0.01, retry_timeouts=True)
    job = client.submit("test.gate", {"path": str(pipe)}, execution_timeout=1, retries=policy)
    with pytest.raises(JobTimedOut):
        job.result(timeout=30)
    assert job.job.attempt == 2
