"""What an operator does with nothing but grpcurl: the real binary, the real scheduler, a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import processes
from support.processes import Scheduler

GRPCURL = Path(sys.executable).with_name("grpcurl")
SERVICES = ["Admin", "Auth", "Fleet", "Job", "Model", "Queue", "Worker"]

TRAIN = {
    "model_type": "logistic_regression",
    "target_column": "late",
    "data": {
        "table": {
            "columns": ["hour", "carrier", "late"],
            "rows": [[hour, carrier, "yes" if hour > 12 else "no"] for hour in range(24) for carrier in "ABC"],
        }
    },
}


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    with processes.scheduler(tmp_path_factory.mktemp("grpcurl")) as running:
        yield running


def grpcurl(at: Scheduler, *arguments: str, request: object = None, header: str = "-H") -> str:
    body = [] if request is None else ["-d", json.dumps(request)]
    # The token goes through the environment: a command line is there for everybody to read.
    headers = ["-expand-headers", header, "authorization: Bearer ${TOKEN}"]
    done = subprocess.run(
        [GRPCURL, "-plaintext", *headers, *body, at.address, *arguments],
        env={"TOKEN": at.token},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def call(at: Scheduler, method: str, **request: object) -> Any:
    return json.loads(grpcurl(at, f"towpath.v1.{method}", request=request))


def answers(text: str) -> list[Any]:
    """The JSON values of a stream, one after the other."""
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def test_services_are_listed(scheduler: Scheduler) -> None:
    listed = grpcurl(scheduler, "list").split()
    assert set(listed) >= {f"towpath.v1.{name}Service" for name in SERVICES} | {"grpc.health.v1.Health"}


def test_a_message_describes_itself(scheduler: Scheduler) -> None:
    text = grpcurl(scheduler, "describe", "towpath.v1.TrainSpec")
    assert "string target_column = 4" in text
    assert ".google.protobuf.Struct hyperparameters = 6" in text


def test_health_needs_no_token(scheduler: Scheduler) -> None:
    # Only the reflection, by which grpcurl learns what Health/Check takes, gets the token.
    shown = grpcurl(scheduler, "grpc.health.v1.Health/Check", header="-reflect-header")
    assert json.loads(shown) == {"status": "SERVING"}


def test_a_queue_is_peeked_in_dispatch_order(scheduler: Scheduler) -> None:
    call(scheduler, "QueueService/PauseQueue", name="held")
    ids = {
        priority: call(
            scheduler,
            "JobService/CreateJob",
            job={"queue": "held", "priority": f"PRIORITY_{priority}", "custom": {"type": "outside.none"}},
        )["job"]["jobId"]
        for priority in ("LOW", "CRITICAL", "NORMAL", "HIGH")
    }
    peeked = call(scheduler, "QueueService/PeekQueue", name="held")["jobs"]
    assert [job["jobId"] for job in peeked] == [ids[name] for name in ("CRITICAL", "HIGH", "NORMAL", "LOW")]
    queue = call(scheduler, "QueueService/GetQueue", name="held")["queue"]
    assert (queue["paused"], queue["queuedCount"]) == (True, 4)


def test_a_train_job_is_created_from_json_and_watched(scheduler: Scheduler, tmp_path: Path) -> None:
    with processes.worker(scheduler, tmp_path):
        job = call(scheduler, "JobService/CreateJob", job={"train": TRAIN}, request_id="grpcurl-1")["job"]
        watched = answers(
            grpcurl(scheduler, "towpath.v1.JobService/WatchJob", request={"job_id": job["jobId"]}),
        )
    last = watched[-1]["job"]
    assert last["state"] == "JOB_STATE_SUCCEEDED", last
    assert last["result"]["train"]["metrics"]["accuracy"] > 0.5
    assert last["result"]["train"]["model"]["modelId"].startswith("mdl_")
    sequences = [event["sequence"] for event in watched]
    assert sequences == sorted(set(sequences))
