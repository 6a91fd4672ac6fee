"""What workers report, from protobuf.

A worker sends a report again until it is acked, so one that could never be taken would block all that follow. What is
wrong inside a report is therefore cut or dropped, never refused; `checks` refuses only what no worker of ours sends.
"""

from __future__ import annotations

import math

from towpath.v1 import job_pb2, worker_pb2, worker_service_pb2
from towpath_server.core.events import Failed, Progressed, Released, Started, Succeeded
from towpath_server.core.job import Failure, FailureCause, Progress
from towpath_server.core.records import ModelRecord
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.models import model_record
from towpath_server.rpc.convert.times import length, moment
from towpath_server.scheduler.messages import Heartbeat, HeldLease, Load, Logged, Report, WorkerEvent

# What is kept of texts that a handler wrote, in characters.
MAX_MESSAGE = 4_000
MAX_TRACEBACK = 40_000
MAX_NAME = 200
MAX_METRICS = 100
# A store counts in 63 bits.
MAX_LOG_OFFSET = 1 << 53
# A job whose result is larger could not be told in one message; workers leave such a result on their machine.
MAX_RESULT_BYTES = 3_500_000


def split(message: worker_service_pb2.ReportJobsRequest) -> list[list[Report] | Heartbeat]:
    """What a message reports, in its order: runs of reports, and the heartbeats between them."""
    parts: list[list[Report] | Heartbeat] = []
    for one in message.reports:
        if one.WhichOneof("event") == "heartbeat":
            parts.append(heartbeat(one.heartbeat))
        elif parts and isinstance(parts[-1], list):
            parts[-1].append(report(one))
        else:
            parts.append([report(one)])
    return parts


def report(message: worker_service_pb2.Report) -> Report:
    """One thing that happened to a leased job."""
    kind, model = message.WhichOneof("event"), None
    event: WorkerEvent
    if kind == "succeeded":
        result = message.succeeded.result
        event = _succeeded(message.lease_token, result)
        if result.WhichOneof("result") == "train":
            model = _trained(result.train)
    else:
        event = _event(message, kind)
    return Report(message.sequence, ids.read(ids.JOB, message.job_id), event, model)


def heartbeat(message: worker_service_pb2.Heartbeat) -> Heartbeat:
    """What a worker holds and does."""
    return Heartbeat(tuple(held_lease(one) for one in message.held_leases), _load(message.load), message.draining)


def held_lease(message: worker_service_pb2.HeldLease) -> HeldLease:
    """A lease that a worker says it holds."""
    return HeldLease(ids.read(ids.JOB, message.job_id), message.lease_token)


def _event(message: worker_service_pb2.Report, kind: str | None) -> WorkerEvent:
    token = message.lease_token
    match kind:
        case "progress":
            return Progressed(token, _progress(message.progress))
        case "log":
            log = message.log
            time = moment(log.log_time)
            offset = min(max(log.offset, 0), MAX_LOG_OFFSET)
            return Logged(token, offset, log.text.replace("\0", " "), _log_stream(log.stream), time)
        case "failed":
            return Failed(token, _failure(message.failed.failure))
        case "released":
            unable = message.released.reason == worker_service_pb2.RELEASE_REASON_UNABLE
            return Released(token, _text(message.released.message, MAX_MESSAGE), unable)
        case _:
            return Started(token)


def _succeeded(token: str, result: job_pb2.JobResult) -> Succeeded | Failed:
    body = result.SerializeToString(deterministic=True)
    if len(body) <= MAX_RESULT_BYTES:
        return Succeeded(token, body)
    what = (
        f"The result has {len(body)} bytes; at most {MAX_RESULT_BYTES} go through the scheduler. Return a path instead."
    )
    return Failed(token, Failure(FailureCause.HANDLER, "ResultTooLarge", what, retryable=False))


def _trained(result: job_pb2.TrainResult) -> ModelRecord | None:
    return model_record(result.model) if ids.read(ids.MODEL, result.model.model_id) else None


def _progress(message: job_pb2.Progress) -> Progress:
    known = message.HasField("percent") and math.isfinite(message.percent)
    metrics = [(_text(name, MAX_NAME), value) for name, value in message.metrics.items() if math.isfinite(value)]
    return Progress(
        percent=min(max(message.percent, 0.0), 100.0) if known else None,
        phase=_text(message.phase, MAX_NAME),
        message=_text(message.message, MAX_MESSAGE),
        metrics=dict(sorted(metrics)[:MAX_METRICS]),
        eta=max(length(message.eta), 0) if message.HasField("eta") else None,
        update_time=moment(message.update_time),
    )


# The scheduler itself says that a worker was lost or that time is up.
_CAUSES = {
    job_pb2.FAILURE_CAUSE_INVALID_INPUT: FailureCause.INVALID_INPUT,
    job_pb2.FAILURE_CAUSE_PROCESS_DIED: FailureCause.PROCESS_DIED,
}


def _failure(message: job_pb2.Failure) -> Failure:
    cause = _CAUSES.get(message.cause, FailureCause.HANDLER)
    return Failure(
        cause=cause,
        type=_text(message.type, MAX_NAME),
        message=_text(message.message, MAX_MESSAGE),
        # The end of a traceback tells the most.
        traceback=message.traceback[-MAX_TRACEBACK:].replace("\0", " "),
        retryable=message.retryable and cause is not FailureCause.INVALID_INPUT,
    )


def _load(message: worker_pb2.MachineLoad) -> Load:
    return Load(
        cpu_percent=min(max(message.cpu_percent, 0.0), 100.0) if math.isfinite(message.cpu_percent) else 0.0,
        memory_used_mb=max(message.memory_used_mb, 0),
        free_slots=max(message.free_slots, 0) if message.HasField("free_slots") else None,
    )


def _log_stream(stream: int) -> int:
    return stream if stream in (1, 2, 3) else 0


def _text(text: str, most: int) -> str:
    # A store of ours takes no NUL in a text.
    return text[:most].replace("\0", " ")
