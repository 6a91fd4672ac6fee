"""Cancel reaches code that does not listen: the process goes, the worker stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from support import processes
from towpath import Client, JobHandle
from towpath.job_errors import JobCancelled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cancel")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[tuple[Client, psutil.Process]]:
    data = folder / "data"
    data.mkdir()
    arguments = ("--handlers", "support.job_types", "--slots", "1", "--data-dir", str(data))
    with (
        processes.scheduler(folder) as at,
        processes.worker(at, folder / "worker", *arguments) as process,
        Client(at.address, at.token) as client,
    ):
        yield client, psutil.Process(process.pid)


def until_phase(job: JobHandle, phase: str) -> None:
    for event in job:
        assert not event.state.is_final, event
        if event.progress is not None and event.progress.phase == phase:
            return


def busy_child(worker: psutil.Process) -> psutil.Process:
    """The child that computes: the one that has used most of the processor."""
    return max(worker.children(recursive=True), key=lambda child: sum(child.cpu_times()[:2]))


def test_training_inside_xgboost_is_cancelled(running: tuple[Client, psutil.Process], folder: Path) -> None:
    client, worker = running
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(60_000, 30)), columns=[f"x{i}" for i in range(30)])
    table["y"] = rng.integers(0, 2, len(table))
    table.to_parquet(folder / "data" / "noise.parquet")
    # One round of a thousand deep trees: minutes in C++ before any callback could look.
    hyperparameters = {"n_estimators": 1, "num_parallel_tree": 1000, "max_depth": 14}
    job = client.train("noise.parquet", "y", hyperparameters=hyperparameters, cancel_grace=1)
    until_phase(job, "fit")
    child = busy_child(worker)
    job.cancel(reason="took too long")
    with pytest.raises(JobCancelled, match="took too long"):
        job.result(timeout=30)
    child.wait(timeout=10)
    assert worker.is_running()
    assert client.submit("test.echo", {"value": "alive"}).result(timeout=60) == "alive"


def test_a_c_call_that_ignores_signals_is_killed_after_the_grace(running: tuple[Client, psutil.Process]) -> None:
    client, _ = running
    job = client.submit("test.native", {"seconds": 600}, cancel_grace=0.5)
    until_phase(job, "native")
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=30)
    assert client.submit("test.echo", {"value": 1}).result(timeout=60) == 1


def test_force_does_not_wait_for_the_grace(running: tuple[Client, psutil.Process]) -> None:
    client, _ = running
    job = client.submit("test.native", {"seconds": 600}, cancel_grace=3600)
    until_phase(job, "native")
    assert job.cancel(force=True).state.name == "CANCELLED"
    assert client.submit("test.echo", {"value": 1}).result(timeout=60) == 1


def test_cancelling_a_finished_job_changes_nothing(running: tuple[Client, psutil.Process]) -> None:
    client, _ = running
    job = client.submit("test.echo", {"value": 1})
    job.result(timeout=60)
    assert job.cancel().state.name == "SUCCEEDED"
