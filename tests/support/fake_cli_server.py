# ruff: noqa: N802 - the methods are named by the contract
"""A scheduler for tests of the command line: real gRPC on a real port, canned jobs, no worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Value
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from support.fake_cli_rest import NASTY, WORKER_ID, Rest, predict_result, train_result, unserved
from towpath.v1 import (
    admin_service_pb2_grpc,
    auth_service_pb2_grpc,
    fleet_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    model_service_pb2_grpc,
    queue_service_pb2_grpc,
)

TOKEN = "tok-secret-of-the-test"
BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FINAL = (
    job_pb2.JOB_STATE_SUCCEEDED,
    job_pb2.JOB_STATE_FAILED,
    job_pb2.JOB_STATE_CANCELLED,
    job_pb2.JOB_STATE_TIMED_OUT,
)

Context = grpc.ServicerContext


def refuse(
    context: Context,
    code: grpc.StatusCode,
    reason: str,
    message: str,
    violations: Sequence[tuple[str, str]] = (),
) -> None:
    """Aborts a call with the details that the contract promises."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain="towpath")]
    if violations:
        named = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=text) for field, text in violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=named))
    packed = []
    for detail in details:
        one = AnyMessage()
        one.Pack(detail)
        packed.append(one)
    status = Status(code=code.value[0], message=message, details=packed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


class Bearer(grpc.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Denies every call without the one token."""

    def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        sent = dict(details.invocation_metadata).get("authorization")
        if sent == f"Bearer {TOKEN}":
            return continuation(details)

        def deny(_: Any, context: Context) -> None:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "No valid token.")

        found = continuation(details)
        kind = grpc.unary_stream_rpc_method_handler if found.response_streaming else grpc.unary_unary_rpc_method_handler
        return kind(deny, found.request_deserializer, found.response_serializer)


class Jobs(job_service_pb2_grpc.JobServiceServicer):
    """Jobs whose type, or first parameter, says what becomes of them: `fail`, `wait`, anything else succeeds."""

    def __init__(self) -> None:
        self.jobs: dict[str, job_pb2.Job] = {}
        self.revoked: list[str] = []
        self.created = threading.Event()
        self.watched = threading.Event()
        self.changed = threading.Condition()

    def CreateJob(self, request: Any, context: Context) -> Any:
        job = job_pb2.Job()
        job.CopyFrom(request.job)
        if job.queue == "full":
            refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", "The queue is full.")
        if job.train.target_column == "bad":
            wrong = (("job.train.target_column", "no such column"), ("job.train.test_size", "must be less than 1"))
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "two fields are wrong", wrong)
        job.job_id = f"job_{len(self.jobs) + 1:013}"
        spec = job.WhichOneof("spec")
        job.job_type = job.custom.type if spec == "custom" else spec or ""
        job.queue = job.queue or "default"
        job.priority = job.priority or job_pb2.PRIORITY_NORMAL
        job.user = "ada"
        job.state = job_pb2.JOB_STATE_QUEUED
        job.etag = "1"
        job.create_time.FromDatetime(BEGIN)
        self.jobs[job.job_id] = job
        self.created.set()
        return job_service_pb2.CreateJobResponse(job=job)

    def GetJob(self, request: Any, context: Context) -> Any:
        return job_service_pb2.GetJobResponse(job=self._job(request, context))

    def ListJobs(self, request: Any, context: Context) -> Any:
        states = set(request.filter.states)
        found = [job for job in self.jobs.values() if not states or job.state in states]
        return job_service_pb2.ListJobsResponse(jobs=found[::-1])

    def WatchJob(self, request: Any, context: Context) -> Iterator[Any]:
        job = self._job(request, context)
        yield job_service_pb2.WatchJobResponse(sequence=1, job=job)
        self.watched.set()
        if job.job_type == "wait":
            with self.changed:
                self.changed.wait_for(lambda: job.state in FINAL or not context.is_active())
        else:
            for sequence, percent in enumerate((10, 60), 2):
                job.state = job_pb2.JOB_STATE_RUNNING
                job.attempt = 1
                job.progress.CopyFrom(job_pb2.Progress(percent=percent, phase="fit", message=f"round {percent} of 100"))
                job.progress.metrics["logloss"] = 1 / percent
                yield job_service_pb2.WatchJobResponse(sequence=sequence, job=job)
            self._finish(job)
        yield job_service_pb2.WatchJobResponse(sequence=9, job=job)

    def WaitJob(self, request: Any, context: Context) -> Any:
        job = self._job(request, context)
        if job.job_type == "wait":
            with self.changed:
                self.changed.wait_for(lambda: job.state in FINAL or not context.is_active())
        elif job.state not in FINAL:
            self._finish(job)
        return job_service_pb2.WaitJobResponse(job=job)

    def WaitJobs(self, request: Any, context: Context) -> Any:
        refuse(context, grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", "the command line waits for one job")

    def BatchCancelJobs(self, request: Any, context: Context) -> Any:
        refuse(context, grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", "the command line cancels one job")

    def CancelJob(self, request: Any, context: Context) -> Any:
        job = self._job(request, context)
        if job.state not in FINAL:
            job.state, job.state_reason = job_pb2.JOB_STATE_CANCELLED, request.reason
        with self.changed:
            self.changed.notify_all()
        return job_service_pb2.CancelJobResponse(job=job)

    def PauseJob(self, request: Any, context: Context) -> Any:
        job = self._job(request, context)
        if job.state in FINAL:
            text = f"Job {job.job_id} is {job_pb2.JobState.Name(job.state)}: it cannot be paused."
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "ILLEGAL_TRANSITION", text)
        job.state = job_pb2.JOB_STATE_PAUSED
        return job_service_pb2.PauseJobResponse(job=job)

    def ResumeJob(self, request: Any, context: Context) -> Any:
        job = self._job(request, context)
        job.state = job_pb2.JOB_STATE_QUEUED
        return job_service_pb2.ResumeJobResponse(job=job)

    def RetryJob(self, request: Any, context: Context) -> Any:
        job = self._job(request, context)
        job.state = job_pb2.JOB_STATE_QUEUED
        return job_service_pb2.RetryJobResponse(job=job)

    def DeleteJob(self, request: Any, context: Context) -> Any:
        del self.jobs[self._job(request, context).job_id]
        return job_service_pb2.DeleteJobResponse()

    def StreamJobLogs(self, request: Any, context: Context) -> Iterator[Any]:
        self._job(request, context)
        yield job_service_pb2.StreamJobLogsResponse(attempt=1, text="first\n", stream=job_service_pb2.LOG_STREAM_LOG)
        yield job_service_pb2.StreamJobLogsResponse(
            attempt=1, offset=6, text="\x1b[2Jsecond\n", stream=job_service_pb2.LOG_STREAM_STDOUT
        )

    def ListJobAttempts(self, request: Any, context: Context) -> Any:
        self._job(request, context)
        attempt = job_pb2.Attempt(attempt=1, worker_id=WORKER_ID, outcome=job_pb2.ATTEMPT_OUTCOME_LOST)
        return job_service_pb2.ListJobAttemptsResponse(attempts=[attempt])

    def ExplainJob(self, request: Any, context: Context) -> Any:
        self._job(request, context)
        fit = job_service_pb2.WorkerFit(worker_id=WORKER_ID, name=NASTY, reasons=["has no GPU", "is full"])
        return job_service_pb2.ExplainJobResponse(summary="No worker has a GPU.", position=3, workers=[fit])

    def GetJobStats(self, request: Any, context: Context) -> Any:
        counts = [job_service_pb2.JobStateCount(state=job_pb2.JOB_STATE_QUEUED, count=len(self.jobs))]
        return job_service_pb2.GetJobStatsResponse(states=counts, total_count=len(self.jobs))

    def BatchCreateJobs(self, request: Any, context: Context) -> Any:
        return unserved(context)

    def UpdateJob(self, request: Any, context: Context) -> Any:
        return unserved(context)

    def WatchJobs(self, request: Any, context: Context) -> Iterator[Any]:
        yield unserved(context)

    def _job(self, request: Any, context: Context) -> job_pb2.Job:
        job = self.jobs.get(request.job_id)
        if job is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND", f"No job {request.job_id} here.")
            raise AssertionError
        return job

    def _finish(self, job: job_pb2.Job) -> None:
        job.end_time.FromDatetime(BEGIN + timedelta(seconds=12))
        job.etag = "9"
        if job.job_type == "fail":
            job.state = job_pb2.JOB_STATE_FAILED
            job.failure.CopyFrom(
                job_pb2.Failure(
                    cause=job_pb2.FAILURE_CAUSE_HANDLER, type="KeyError", message="no such thing", traceback="Traceback"
                )
            )
            return
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        if job.job_type == "train":
            job.result.train.CopyFrom(train_result())
        elif job.job_type == "predict":
            job.result.predict.CopyFrom(predict_result())
        else:
            value = Value()
            value.struct_value.CopyFrom(job.custom.params)
            job.result.custom.value.CopyFrom(value)


@contextmanager
def serving() -> Iterator[tuple[str, Jobs]]:
    """The address of a scheduler that runs meanwhile, and its jobs."""
    jobs = Jobs()
    rest = Rest(jobs.jobs, jobs.revoked)
    server = grpc.server(ThreadPoolExecutor(16), interceptors=[Bearer()])
    job_service_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
    queue_service_pb2_grpc.add_QueueServiceServicer_to_server(rest, server)
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(rest, server)
    auth_service_pb2_grpc.add_AuthServiceServicer_to_server(rest, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(rest, server)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(rest, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", jobs
    finally:
        server.stop(None)
        with jobs.changed:
            jobs.changed.notify_all()
