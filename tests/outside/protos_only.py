"""A client that knows the protos and nothing else of Towpath: worker and submitter in one process.

test_protos_only.py runs it with an interpreter that has no Towpath: `python -I protos_only.py STUBS ADDRESS`. It prints
what it saw as one line of JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import sys
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, sys.argv[1])

import grpc
from google.protobuf import json_format

from towpath.v1 import job_pb2, job_service_pb2, worker_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub

SECONDS = 30
JOB_TYPE = "outside.add"


class Reports:
    """The report stream of one session: what goes up, and what was acknowledged."""

    def __init__(self, stub: WorkerServiceStub, session: worker_service_pb2.RegisterWorkerResponse, token: Any) -> None:
        self._sequence = 0
        self._up: queue.SimpleQueue[worker_service_pb2.ReportJobsRequest | None] = queue.SimpleQueue()
        self._up.put(worker_service_pb2.ReportJobsRequest(worker_id=session.worker_id, session_id=session.session_id))
        self._down = stub.ReportJobs(self._sent(), metadata=token, timeout=SECONDS)

    def _sent(self) -> Iterator[worker_service_pb2.ReportJobsRequest]:
        while (message := self._up.get()) is not None:
            yield message

    def tell(self, lease: worker_service_pb2.Lease, **event: Any) -> None:
        """Report an event, and return once it is durable."""
        self._sequence += 1
        report = worker_service_pb2.Report(
            sequence=self._sequence, job_id=lease.job.job_id, lease_token=lease.lease_token, **event
        )
        self._up.put(worker_service_pb2.ReportJobsRequest(reports=[report]))
        acked = 0
        while acked < self._sequence:
            acked = max(acked, next(self._down).acked_sequence)

    def close(self) -> None:
        self._up.put(None)
        for _ in self._down:
            pass


def main() -> None:
    token = (("authorization", f"Bearer {os.environ['TOWPATH_TOKEN']}"),)
    with grpc.insecure_channel(sys.argv[2]) as channel:
        seen = talk(JobServiceStub(channel), WorkerServiceStub(channel), token)
    seen["grpcio"] = grpc.__version__
    seen["towpath"] = [name for name in ("towpath.client", "towpath_worker", "towpath_server") if installed(name)]
    print(json.dumps(seen))


def installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def talk(jobs: JobServiceStub, workers: WorkerServiceStub, token: Any) -> dict[str, Any]:
    job = job_pb2.Job(custom=job_pb2.CustomSpec(type=JOB_TYPE))
    job.custom.params.update({"a": 2, "b": 3})
    create = job_service_pb2.CreateJobRequest(job=job, request_id="outside-1")
    job_id = jobs.CreateJob(create, metadata=token, timeout=SECONDS).job.job_id
    again = jobs.CreateJob(create, metadata=token, timeout=SECONDS).job.job_id

    register = worker_service_pb2.RegisterWorkerRequest(name="outside", slots=1, job_types=[JOB_TYPE])
    session = workers.RegisterWorker(register, metadata=token, timeout=SECONDS)
    poll = worker_service_pb2.LeaseJobsRequest(
        worker_id=session.worker_id, session_id=session.session_id, poll_id="poll-1", max_jobs=1
    )
    (lease,) = workers.LeaseJobs(poll, metadata=token, timeout=SECONDS).leases
    params = json_format.MessageToDict(lease.job.custom.params)

    reports = Reports(workers, session, token)
    reports.tell(lease, started=worker_service_pb2.Started())
    reports.tell(lease, progress=job_pb2.Progress(percent=50, message="half of it"))
    running = jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id), metadata=token, timeout=SECONDS).job
    reports.tell(lease, log=worker_service_pb2.LogChunk(text="adding\n", stream=job_service_pb2.LOG_STREAM_STDOUT))
    result = job_pb2.JobResult()
    result.custom.value.number_value = params["a"] + params["b"]
    reports.tell(lease, succeeded=worker_service_pb2.Succeeded(result=result))

    wait = job_service_pb2.WaitJobRequest(job_id=job_id)
    done = jobs.WaitJob(wait, metadata=token, timeout=SECONDS).job
    logs = job_service_pb2.StreamJobLogsRequest(job_id=job_id)
    text = "".join(piece.text for piece in jobs.StreamJobLogs(logs, metadata=token, timeout=SECONDS))
    attempts = job_service_pb2.ListJobAttemptsRequest(job_id=job_id)
    (attempt,) = jobs.ListJobAttempts(attempts, metadata=token, timeout=SECONDS).attempts
    reports.close()
    goodbye = worker_service_pb2.DeregisterWorkerRequest(worker_id=session.worker_id, session_id=session.session_id)
    workers.DeregisterWorker(goodbye, metadata=token, timeout=SECONDS)
    return {
        "same_job": job_id == again == lease.job.job_id,
        "running": [job_pb2.JobState.Name(running.state), running.progress.percent, running.progress.message],
        "done": [job_pb2.JobState.Name(done.state), done.result.custom.value.number_value],
        "log": text,
        "attempt": [attempt.attempt, job_pb2.AttemptOutcome.Name(attempt.outcome)],
    }


if __name__ == "__main__":
    main()
