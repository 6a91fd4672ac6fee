"""A scheduler in a few lines, for the client's tests: a real gRPC server whose answers and failures are scripted."""

# ruff: noqa: N802 (methods are named as the contract names them)

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from towpath.v1 import job_pb2, job_service_pb2
from towpath.v1.job_pb2 import Job, JobResult
from towpath.v1.job_service_pb2_grpc import JobServiceServicer, add_JobServiceServicer_to_server

TOKEN = "tok-of-the-tests"
FINAL = {job_pb2.JobState.Value(f"JOB_STATE_{name}") for name in ("SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT")}
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Refusal(Exception):
    """A status with details, to be raised in place of an answer."""

    def __init__(self, code: grpc.StatusCode, message: str = "as scripted", *details: Message) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


def info(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    """The detail that names the reason."""
    return error_details_pb2.ErrorInfo(reason=reason, domain="towpath", metadata=metadata)


def value(given: float | str) -> JobResult:
    """The result of a handler that returned a number or text."""
    result = JobResult()
    if isinstance(given, str):
        result.custom.value.string_value = given
    else:
        result.custom.value.number_value = given
    return result


def job_id(number: int) -> str:
    """`job_` and 13 characters."""
    digits = ""
    for _ in range(13):
        number, digit = divmod(number, 32)
        digits = ALPHABET[digit] + digits
    return f"job_{digits}"


class FakeJobs(JobServiceServicer):
    """Keeps jobs in memory. `run` decides what becomes of a new job; without it, tests move jobs by `put`."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.history: dict[str, list[Job]] = defaultdict(list)
        # The ids of jobs in the order of their changes; a change's sequence is its place, from 2.
        self.changes: list[str] = []
        self.calls: list[tuple[str, Any]] = []
        # By method: refusals for its next calls; and after how many answers its next streams break.
        self.refusals: dict[str, deque[Refusal]] = defaultdict(deque)
        self.breaks: dict[str, deque[int]] = defaultdict(deque)
        self.run: Callable[[Job], JobResult | None] | None = None
        # The jobs that are wrong.
        self.refuse_if: Callable[[Job], bool] = lambda job: False
        # Those whose results watches have room for.
        self.tells_results: Callable[[Job], bool] = lambda job: True
        self.logs: list[job_service_pb2.StreamJobLogsResponse] = []
        self.changed = threading.Condition()
        self._by_request: dict[str, str] = {}
        self._stopped = False

    def put(self, job: Job) -> Job:
        """Stores the next state of a job and tells its watchers."""
        with self.changed:
            job.etag = str(len(self.history[job.job_id]) + 1)
            self.jobs[job.job_id] = job
            self.history[job.job_id].append(job)
            self.changes.append(job.job_id)
            self.changed.notify_all()
        return job

    def move(self, identity: str, state: job_pb2.JobState.ValueType, **fields: Any) -> Job:
        """Stores a job with another state."""
        job = Job()
        job.CopyFrom(self.jobs[identity])
        job.MergeFrom(Job(state=state, **fields))
        return self.put(job)

    def finish(self, identity: str, result: JobResult) -> Job:
        """The job succeeds."""
        return self.move(identity, job_pb2.JOB_STATE_SUCCEEDED, result=result)

    def requests(self, method: str) -> list[Any]:
        """The requests that a method got, also those that were refused."""
        return [request for name, request in self.calls if name == method]

    def stop(self) -> None:
        """Ends all streams."""
        with self.changed:
            self._stopped = True
            self.changed.notify_all()

    def CreateJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.CreateJobResponse:
        self._called("CreateJob", request, context)
        self._refuse_wrong(request, "", context)
        return job_service_pb2.CreateJobResponse(job=self._created(request))

    def BatchCreateJobs(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.BatchCreateJobsResponse:
        self._called("BatchCreateJobs", request, context)
        for index, one in enumerate(request.requests):
            self._refuse_wrong(one, f"requests[{index}].", context)
        jobs = [self._created(one) for one in request.requests]
        answer = job_service_pb2.BatchCreateJobsResponse(jobs=jobs)
        for job in answer.jobs:
            for name in ("custom", "result"):
                job.ClearField(name)
        return answer

    def GetJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.GetJobResponse:
        self._called("GetJob", request, context)
        return job_service_pb2.GetJobResponse(job=self._found(request, context))

    def ListJobs(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.ListJobsResponse:
        self._called("ListJobs", request, context)
        found = [job for job in reversed(list(self.jobs.values())) if fits(request.filter, job)]
        first = int(request.page_token or 0)
        last = first + (request.page_size or 50)
        return job_service_pb2.ListJobsResponse(
            jobs=found[first:last], next_page_token=str(last) if last < len(found) else ""
        )

    def UpdateJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.UpdateJobResponse:
        self._called("UpdateJob", request, context)
        job = Job()
        job.CopyFrom(self._found(request.job, context))
        request.update_mask.MergeMessage(request.job, job, True, True)
        return job_service_pb2.UpdateJobResponse(job=self.put(job))

    def DeleteJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.DeleteJobResponse:
        self._called("DeleteJob", request, context)
        del self.jobs[self._found(request, context).job_id]
        return job_service_pb2.DeleteJobResponse()

    def CancelJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.CancelJobResponse:
        self._called("CancelJob", request, context)
        job = self._found(request, context)
        if job.state == job_pb2.JOB_STATE_RUNNING:
            job = self.move(job.job_id, job_pb2.JOB_STATE_CANCELLING, state_reason=request.reason)
        elif job.state not in FINAL:
            job = self.move(job.job_id, job_pb2.JOB_STATE_CANCELLED, state_reason=request.reason)
        return job_service_pb2.CancelJobResponse(job=job)

    def BatchCancelJobs(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.BatchCancelJobsResponse:
        self._called("BatchCancelJobs", request, context)
        for identity in request.job_ids:
            if self.jobs[identity].state not in FINAL:
                self.move(identity, job_pb2.JOB_STATE_CANCELLED, state_reason=request.reason)
        return job_service_pb2.BatchCancelJobsResponse(jobs=[self.jobs[identity] for identity in request.job_ids])

    def PauseJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.PauseJobResponse:
        self._called("PauseJob", request, context)
        return job_service_pb2.PauseJobResponse(job=self.move(request.job_id, job_pb2.JOB_STATE_PAUSED))

    def ResumeJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.ResumeJobResponse:
        self._called("ResumeJob", request, context)
        return job_service_pb2.ResumeJobResponse(job=self.move(request.job_id, job_pb2.JOB_STATE_QUEUED))

    def RetryJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.RetryJobResponse:
        self._called("RetryJob", request, context)
        return job_service_pb2.RetryJobResponse(job=self.move(request.job_id, job_pb2.JOB_STATE_QUEUED))

    def WaitJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.WaitJobResponse:
        self._called("WaitJob", request, context)
        self._found(request, context)
        seconds = request.wait_timeout.ToMicroseconds() / 1e6
        with self.changed:
            self.changed.wait_for(lambda: self._stopped or self.jobs[request.job_id].state in FINAL, seconds)
        return job_service_pb2.WaitJobResponse(job=self.jobs[request.job_id])

    def WaitJobs(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.WaitJobsResponse:
        self._called("WaitJobs", request, context)
        seconds = request.wait_timeout.ToMicroseconds() / 1e6

        def over() -> list[Job]:
            return [self.jobs[identity] for identity in request.job_ids if self.jobs[identity].state in FINAL]

        with self.changed:
            self.changed.wait_for(lambda: self._stopped or over(), seconds)
        answer = job_service_pb2.WaitJobsResponse(jobs=over())
        for job in answer.jobs:
            job.ClearField("custom")
        return answer

    def WatchJob(self, request: Any, context: grpc.ServicerContext) -> Iterator[job_service_pb2.WatchJobResponse]:
        self._called("WatchJob", request, context)
        job = self._found(request, context)
        history, sequence = self.history[job.job_id], request.from_sequence
        left = self._break("WatchJob")
        while not self._stopped and context.is_active():
            if sequence >= len(history) and job.state in FINAL:
                return
            with self.changed:
                while not self._stopped and len(history) <= sequence and context.is_active():
                    self.changed.wait(0.5)
            for job in history[sequence:]:
                if next(left) == 0:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")
                sequence += 1
                yield job_service_pb2.WatchJobResponse(sequence=sequence, job=job)
                if job.state in FINAL:
                    return

    def WatchJobs(self, request: Any, context: grpc.ServicerContext) -> Iterator[job_service_pb2.WatchJobsResponse]:
        self._called("WatchJobs", request, context)
        sequence = request.from_sequence or len(self.changes) + 1
        yield job_service_pb2.WatchJobsResponse(sequence=sequence)
        left = self._break("WatchJobs")

        def more() -> bool:
            return self._stopped or len(self.changes) >= sequence

        while not self._stopped and context.is_active():
            with self.changed:
                self.changed.wait_for(more, 0.5)
            for identity in self.changes[sequence - 1 :]:
                sequence += 1
                job = self.jobs.get(identity)
                if job is None or not fits(request.filter, job):
                    continue
                if next(left) == 0:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")
                event = job_service_pb2.JobEvent(sequence=int(job.etag), job=job)
                if not self.tells_results(job):
                    event.job.ClearField("result")
                event.job.ClearField("custom")
                yield job_service_pb2.WatchJobsResponse(events=[event], sequence=sequence)

    def StreamJobLogs(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._called("StreamJobLogs", request, context)
        left = self._break("StreamJobLogs")
        current = max((chunk.attempt for chunk in self.logs), default=0)
        first = request.attempt or (1 if request.follow and not request.offset else current)
        for chunk in self.logs:
            if chunk.attempt == request.attempt or (not request.attempt and chunk.attempt >= first):
                if next(left) == 0:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")
                skip = max(request.offset - chunk.offset, 0)
                if text := chunk.text.encode()[skip:].decode():
                    yield job_service_pb2.StreamJobLogsResponse(
                        attempt=chunk.attempt, offset=chunk.offset + skip, text=text, stream=chunk.stream
                    )

    def ListJobAttempts(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.ListJobAttemptsResponse:
        self._called("ListJobAttempts", request, context)
        return job_service_pb2.ListJobAttemptsResponse(attempts=[job_pb2.Attempt(attempt=1)])

    def ExplainJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.ExplainJobResponse:
        self._called("ExplainJob", request, context)
        return job_service_pb2.ExplainJobResponse(summary="It waits for a worker.", position=1)

    def GetJobStats(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.GetJobStatsResponse:
        self._called("GetJobStats", request, context)
        return job_service_pb2.GetJobStatsResponse(total_count=len(self.jobs))

    def _called(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        self.calls.append((method, request))
        if ("authorization", f"Bearer {TOKEN}") not in [(key, text) for key, text in context.invocation_metadata()]:
            refuse(context, Refusal(grpc.StatusCode.UNAUTHENTICATED, "No valid token.", info("UNAUTHENTICATED")))
        if self.refusals[method]:
            refuse(context, self.refusals[method].popleft())

    def _refuse_wrong(self, request: Any, prefix: str, context: grpc.ServicerContext) -> None:
        if self.refuse_if(request.job):
            bad = error_details_pb2.BadRequest()
            bad.field_violations.add(field=f"{prefix}job.custom", description="as scripted")
            refuse(context, Refusal(grpc.StatusCode.INVALID_ARGUMENT, "wrong", info("INVALID_ARGUMENT"), bad))

    def _created(self, request: Any) -> Job:
        with self.changed:
            if request.request_id in self._by_request:
                return self.jobs[self._by_request[request.request_id]]
            job = Job()
            job.CopyFrom(request.job)
            job.job_id = job_id(len(self._by_request) + 1)
            job.job_type = job.custom.type if job.HasField("custom") else str(job.WhichOneof("spec"))
            job.state = job_pb2.JOB_STATE_QUEUED
            self._by_request[request.request_id] = job.job_id
            self.put(job)
        if self.run is not None and (result := self.run(job)) is not None:
            self.finish(job.job_id, result)
        return self.jobs[job.job_id]

    def _found(self, request: Any, context: grpc.ServicerContext) -> Job:
        if request.job_id not in self.jobs:
            refuse(context, Refusal(grpc.StatusCode.NOT_FOUND, "No such job.", info("JOB_NOT_FOUND", job_id="x")))
        return self.jobs[request.job_id]

    def _break(self, method: str) -> Iterator[int]:
        """Counts down to 0, where the stream breaks; for ever above it where no break is scripted."""
        left = self.breaks[method].popleft() if self.breaks[method] else -1
        while True:
            yield left
            left -= 1


def fits(wanted: job_service_pb2.JobFilter, job: Job) -> bool:
    """Whether the filter selects the job."""
    return (not wanted.states or job.state in wanted.states) and all(
        job.labels.get(name) == label for name, label in wanted.labels.items()
    )


def refuse(context: grpc.ServicerContext, refusal: Refusal) -> NoReturn:
    """Answers with a status, and its details where it has some."""
    if refusal.details:
        status = status_pb2.Status(code=refusal.code.value[0], message=refusal.message)
        for detail in refusal.details:
            status.details.add().Pack(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(refusal.code, refusal.message)


@contextmanager
def serving(
    jobs: FakeJobs,
    port: int = 0,
    options: Sequence[tuple[str, Any]] = (),
    *,
    host: str = "127.0.0.1",
    tls: grpc.ServerCredentials | None = None,
) -> Iterator[str]:
    """The fake behind a port of this machine; gives its address."""
    server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0), *options])
    add_JobServiceServicer_to_server(jobs, server)
    here = f"{host}:{port}"
    bound = server.add_insecure_port(here) if tls is None else server.add_secure_port(here, tls)
    server.start()
    try:
        yield f"{host}:{bound}"
    finally:
        jobs.stop()
        server.stop(0).wait()
