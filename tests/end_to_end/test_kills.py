"""kill -9 of workers and of the scheduler: nothing is lost, nothing counts twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pandas as pd

from support import processes
from support.processes import Scheduler
from towpath import Client, JobHandle, JobState

QUICK = ("--lease-ttl", "6", "--heartbeat-interval", "0.5")
# Without the built-in job types: nothing here pays for importing pandas.
JOB_TYPES = ("--handlers", "support.job_types", "--allow", "test.gate,test.write")


def until_progress(job: JobHandle) -> None:
    for event in job:
        assert not event.state.is_final, event
        if event.progress is not None and event.progress.percent:
            return


def open_gate(pipe: Path, words: str) -> None:
    pipe.write_text(words, encoding="utf-8")


def test_the_job_of_a_killed_worker_is_run_again(tmp_path: Path) -> None:
    pipe = tmp_path / "gate"
    os.mkfifo(pipe)
    with processes.scheduler(tmp_path, *QUICK) as at, Client(at.address, at.token) as client:
        job = client.submit("test.gate", {"path": str(pipe)})
        with processes.worker(at, tmp_path / "first", *JOB_TYPES) as first:
            until_progress(job)
            first.send_signal(signal.SIGKILL)
            first.wait()
        with processes.worker(at, tmp_path / "second", *JOB_TYPES):
            until_lost(job)
            until_progress(job)
            open_gate(pipe, "through")
            assert job.result(timeout=60) == "through"
        assert (job.job.lost_count, job.job.attempt_count, job.job.attempt) == (1, 1, 2)
        outcomes = [attempt.outcome.name for attempt in client.attempts(job.job_id)]
        assert outcomes == ["SUCCEEDED", "LOST"]


def until_lost(job: JobHandle) -> None:
    for event in job:
        if event.lost_count:
            return


def test_training_goes_on_while_the_scheduler_is_killed_and_started_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    pd.DataFrame({"x": range(20_000), "y": [i % 7 for i in range(20_000)]}).to_csv(data / "t.csv", index=False)
    with ExitStack() as stack:
        with processes.scheduler(tmp_path, *QUICK) as at:
            arguments = ("--slots", "1", "--allow", "train", "--data-dir", str(data))
            stack.enter_context(processes.worker(at, tmp_path / "worker", *arguments))
            with Client(at.address, at.token) as client:
                job = client.train("t.csv", "y", task_type="regression", hyperparameters={"n_estimators": 1500})
                until_progress(job)
                at.process.send_signal(signal.SIGKILL)
                at.process.wait()
        with again(at, tmp_path), Client(at.address, at.token) as client:
            handle = client.job(job.job_id)
            assert handle.result(timeout=100).metrics["r2"] <= 1
            assert (handle.job.attempt, handle.job.attempt_count, handle.job.lost_count) == (1, 1, 0)
            stack.close()


def again(at: Scheduler, folder: Path) -> AbstractContextManager[Scheduler]:
    return processes.scheduler(folder, *QUICK, "--listen", at.address)


def test_500_jobs_through_3_workers_each_once_in_effect(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    with ExitStack() as stack:
        at = stack.enter_context(processes.scheduler(tmp_path))
        client = stack.enter_context(Client(at.address, at.token))
        for number in range(3):
            stack.enter_context(processes.worker(at, tmp_path / f"worker-{number}", *JOB_TYPES, "--slots", "2"))
        names = [f"job {number}" for number in range(500)]
        parameters = ({"path": str(effects), "line": name} for name in names)
        assert list(client.map("test.write", parameters)) == names
        counts = Counter(effects.read_text(encoding="utf-8").splitlines())
        assert counts == Counter(names)
        holders = {job.worker_id for job in client.jobs(job_type="test.write")}
        assert len(holders) == 3
        assert client.stats().by_state == {JobState.SUCCEEDED: 500}
