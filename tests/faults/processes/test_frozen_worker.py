"""A worker that was frozen or killed at the wrong moment: its result and its model count once, or not at all."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from support import processes
from support.processes import Process
from support.worker_stage import alive
from towpath import Client, JobHandle, JobState
from towpath.v1 import model_pb2
from towpath_worker import failpoints, models, staging
from towpath_worker.paths import Folders

LEASE = 3
QUICK = ("--lease-ttl", str(LEASE), "--heartbeat-interval", "0.5")
TINY = ("--handlers", "support.tiny_training", "--slots", "1")
PATIENCE = 60.0


def here(folder: Path) -> Folders:
    return Folders(data=(), models=folder / "state" / "models", results=folder / "state" / "results")


def published(folder: Path) -> list[model_pb2.Model]:
    return models.scan(here(folder))


def staged(folder: Path) -> set[staging.Lease]:
    return staging.leases(here(folder))


def until(happened: Callable[[], object]) -> None:
    """Wait for what only the file system or the table of processes tells."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextmanager
def frozen(worker: Process) -> Iterator[None]:
    """The worker's own process is stopped; its children go on."""
    worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGCONT)


def at_gate(job: JobHandle, attempt: int) -> int:
    """Wait until that attempt waits at its gate; the process that does."""
    for event in job:
        assert not event.state.is_final, event
        if event.attempt == attempt and event.progress is not None and event.progress.phase == "gate":
            return int(event.progress.message)
    raise AssertionError("the job's events ended")


def test_a_worker_frozen_for_three_leases_publishes_no_model(tmp_path: Path) -> None:
    gate, one, two = tmp_path / "gate", tmp_path / "one", tmp_path / "two"
    os.mkfifo(gate)
    arguments = (*TINY, "--allow", "train")
    with ExitStack() as stack:
        at = stack.enter_context(processes.scheduler(tmp_path, *QUICK))
        client = stack.enter_context(Client(at.address, at.token))
        sleeper = stack.enter_context(processes.worker(at, one, *arguments))
        job = client.train(str(gate), "y", name="m")
        at_gate(job, 1)
        with frozen(sleeper):
            thaw = time.monotonic() + 3 * LEASE
            stack.enter_context(processes.worker(at, two, *arguments))
            at_gate(job, 2)
            gate.write_text("both go on", encoding="utf-8")
            model = job.result(timeout=PATIENCE).model
            # The sleeper's child has finished too, and has a model to publish when the worker wakes up.
            until(lambda: staged(one))
            time.sleep(max(0.0, thaw - time.monotonic()))
            assert published(one) == []
        until(lambda: "its result was not taken" in (one / "towpath_worker.log").read_text(encoding="utf-8"))
        assert not staged(one)
        assert [path for path in here(one).models.rglob("*") if path.is_file()] == []
        assert [stored.model_id for stored in published(two)] == [model.model_id]
        assert [stored.model_id for stored in client.models()] == [model.model_id]
        assert [attempt.outcome.name for attempt in client.attempts(job.job_id)] == ["SUCCEEDED", "LOST"]


def test_the_child_of_a_worker_that_was_frozen_is_killed_when_its_lease_is_anothers(tmp_path: Path) -> None:
    pipe = tmp_path / "gate"
    os.mkfifo(pipe)
    arguments = (*TINY, "--allow", "tiny.gate")
    with ExitStack() as stack:
        at = stack.enter_context(processes.scheduler(tmp_path, *QUICK))
        client = stack.enter_context(Client(at.address, at.token))
        sleeper = stack.enter_context(processes.worker(at, tmp_path / "one", *arguments))
        job = client.submit("tiny.gate", {"path": str(pipe)})
        child = at_gate(job, 1)
        assert psutil.pid_exists(child)
        with frozen(sleeper):
            stack.enter_context(processes.worker(at, tmp_path / "two", *arguments))
            at_gate(job, 2)
            assert alive(child)
        until(lambda: not alive(child))
        pipe.write_text("through", encoding="utf-8")
        assert job.result(timeout=PATIENCE) == "through"
        assert (job.job.attempt, job.job.lost_count) == (2, 1)


# One training comes past all of them; how many models are published when the worker dies there.
DEATHS = {"model.staged": 0, "outcome.spooled": 0, "ack.before": 0, "model.published": 1}


def test_a_training_whose_worker_dies_at_every_step_has_one_model_in_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    folder.mkdir()
    with processes.scheduler(tmp_path) as at, Client(at.address, at.token) as client:
        words = processes.worker_words(at.address, folder, *TINY, "--allow", "train")
        job = client.train([{"x": 1, "y": 2}], "y", name="m")
        for point, count in DEATHS.items():
            environment = {**at.environment, failpoints.VARIABLE: f"{point}=kill"}
            with processes.start(words, folder, environment) as (worker, _):
                assert worker.wait(PATIENCE) == -signal.SIGKILL, point
            assert len(published(folder)) == count, point
        with processes.start(words, folder, at.environment):
            model = job.result(timeout=PATIENCE).model
            until(lambda: not staged(folder) and (folder / "state" / "spool").stat().st_size == 0)
            assert [one.model_id for one in published(folder)] == [model.model_id]
            until(lambda: [one.model_id for one in client.models()] == [model.model_id])
        assert job.job.state is JobState.SUCCEEDED
        outcomes = [attempt.outcome.name for attempt in client.attempts(job.job_id)]
        assert outcomes.count("SUCCEEDED") == 1, outcomes
