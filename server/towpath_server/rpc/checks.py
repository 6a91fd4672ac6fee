"""What the rules in the protos cannot say: values that no store or no reader could take, ids, tokens, masks.

Each check yields everything that it finds. They look at any bytes that a client may send, so each is cheap on a
message of 4 MiB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf import descriptor, struct_pb2
from google.protobuf.message import DecodeError, Message

from towpath.v1 import (
    admin_service_pb2,
    auth_service_pb2,
    fleet_service_pb2,
    job_pb2,
    job_service_pb2,
    model_service_pb2,
    queue_service_pb2,
    worker_service_pb2,
)
from towpath_server.core.errors import Violation
from towpath_server.rpc import pages
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.new_jobs import BUILT_IN_TYPES, CHANGEABLE, is_etag
from towpath_server.rpc.convert.wire import varint
from towpath_server.rpc.sound import OPAQUE

# Room for a result beside it in one message, see `convert/jobs.py`.
MAX_JOB_BYTES = 3_500_000
MAX_ANNOTATIONS_BYTES = 64 * 1024
MAX_LABEL = 500
# 2100-01-01: ids and clocks are good until then.
LATEST_SCHEDULE = 4_102_444_800

# A double that is NaN or infinite, as the number_value of a Value. Other bytes may look so too.
_NOT_FINITE = re.compile(rb"\x11.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)

Check = Callable[[Any, bytes], Iterator[Violation]]


def violations(message: Message, raw: bytes) -> list[Violation]:
    """Everything that is wrong with a message beyond the rules of the protos; `raw` is the message, serialized."""
    check = _CHECKS.get(type(message))
    return list(check(message, raw)) if check is not None else []


def with_nul(message: Message, raw: bytes) -> list[Violation]:
    """All text in a message that has a NUL in it. Reports bring what handlers wrote: there it does no harm."""
    if b"\0" not in raw or isinstance(message, worker_service_pb2.ReportJobsRequest):
        return []
    return [Violation(path, "must not contain a NUL character") for path in _with_nul(message)]


def _create(request: job_service_pb2.CreateJobRequest, raw: bytes) -> Iterator[Violation]:
    bytes_ = request.job.ByteSize() if len(raw) > MAX_JOB_BYTES else 0
    if bytes_ > MAX_JOB_BYTES:
        yield Violation(
            "job", f"has {bytes_} bytes, at most {MAX_JOB_BYTES} can be taken: put the data in a file and give its path"
        )
        return
    yield from _new_job(request.job, "job", _may_be_not_finite(raw))
    if not _fits_a_lease(raw):
        yield Violation("job", "is nested too deep: at most about 30 levels can be sent to a worker")


def _batch_create(request: job_service_pb2.BatchCreateJobsRequest, raw: bytes) -> Iterator[Violation]:
    # Its jobs lie as deep as in a lease: what could be parsed can be sent to a worker.
    if len(raw) > MAX_JOB_BYTES:
        yield Violation("requests", f"have {len(raw)} bytes, at most {MAX_JOB_BYTES} can be taken: send fewer")
        return
    not_finite = _may_be_not_finite(raw)
    for index, one in enumerate(request.requests):
        yield from _new_job(one.job, f"requests[{index}].job", not_finite)


def _new_job(job: job_pb2.Job, path: str, not_finite: bool) -> Iterator[Violation]:
    if not_finite or job.HasField("annotations"):
        yield from _asked_for(job, path)
    if job.custom.type in BUILT_IN_TYPES:
        yield Violation(
            f"{path}.custom.type", f"`{job.custom.type}` is built in: give {path}.{job.custom.type} instead"
        )
    if job.HasField("schedule_time") and not 0 <= job.schedule_time.seconds < LATEST_SCHEDULE:
        yield Violation(f"{path}.schedule_time", "must lie between 1970 and 2100")
    # Who sets one of these believes that a key is there.
    if job.conflict_policy > job_pb2.CONFLICT_POLICY_REJECT and not job.dedupe_key:
        yield Violation(f"{path}.conflict_policy", "asks for a dedupe_key, and there is none")
    labels = job.requirements.worker_labels.items() if job.HasField("requirements") else ()
    if any(len(text) > MAX_LABEL for label in labels for text in label):
        yield Violation(f"{path}.requirements.worker_labels", f"must have at most {MAX_LABEL} characters each")


def _update(request: job_service_pb2.UpdateJobRequest, raw: bytes) -> Iterator[Violation]:
    yield from _id(ids.JOB, "job.job_id", request.job.job_id)
    yield from _asked_for(request.job, "job")
    if not is_etag(request.job.etag):
        yield Violation("job.etag", "must be the etag of the job as it was read, or empty")
    if request.HasField("update_mask") and not request.update_mask.paths:
        yield Violation("update_mask", "must name at least one field")
    for path in request.update_mask.paths:
        if path not in CHANGEABLE:
            yield Violation(
                "update_mask", f"`{path[:50]}` cannot be changed; these can: {', '.join(sorted(CHANGEABLE))}"
            )


def _seen(request: job_service_pb2.WaitJobRequest | job_service_pb2.RetryJobRequest, raw: bytes) -> Iterator[Violation]:
    if not is_etag(request.etag):
        yield Violation("etag", "must be the etag of the job as it was read, or empty")


def _filtered(
    request: job_service_pb2.ListJobsRequest | job_service_pb2.WatchJobsRequest | job_service_pb2.GetJobStatsRequest,
    raw: bytes,
) -> Iterator[Violation]:
    if request.filter.worker_id:
        yield from _id(ids.WORKER, "filter.worker_id", request.filter.worker_id)
    if isinstance(request, job_service_pb2.ListJobsRequest):
        yield from _page(request, raw)


def _page(request: pages.PageRequest, raw: bytes) -> Iterator[Violation]:
    if not pages.is_own(request):
        yield Violation("page_token", "is not from this list: repeat the request that gave it, or begin with none")


def _models(request: model_service_pb2.ListModelsRequest, raw: bytes) -> Iterator[Violation]:
    if request.worker_id:
        yield from _id(ids.WORKER, "worker_id", request.worker_id)
    yield from _page(request, raw)


def _register(request: worker_service_pb2.RegisterWorkerRequest, raw: bytes) -> Iterator[Violation]:
    for index, model in enumerate(request.models):
        yield from _id(ids.MODEL, f"models[{index}].model_id", model.model_id)
    for index, lease in enumerate(request.held_leases):
        yield from _id(ids.JOB, f"held_leases[{index}].job_id", lease.job_id)


def _session(
    request: worker_service_pb2.LeaseJobsRequest | worker_service_pb2.DeregisterWorkerRequest,
    raw: bytes,
) -> Iterator[Violation]:
    yield from _id(ids.WORKER, "worker_id", request.worker_id)


def _sync(request: worker_service_pb2.SyncModelsRequest, raw: bytes) -> Iterator[Violation]:
    yield from _id(ids.WORKER, "worker_id", request.worker_id)
    for index, model in enumerate(request.models):
        yield from _id(ids.MODEL, f"models[{index}].model_id", model.model_id)


def _report(request: worker_service_pb2.ReportJobsRequest, raw: bytes) -> Iterator[Violation]:
    for index, report in enumerate(request.reports):
        match report.WhichOneof("event"):
            case "heartbeat":
                continue
            case None:
                yield Violation(f"reports[{index}]", "must tell one event")
        if report.sequence < 1:
            yield Violation(f"reports[{index}].sequence", "must count from 1 in each session")
        if not report.lease_token:
            yield Violation(f"reports[{index}].lease_token", "is required")
        yield from _id(ids.JOB, f"reports[{index}].job_id", report.job_id)


_CHECKS: Mapping[type[Message], Check] = {
    job_service_pb2.CreateJobRequest: _create,
    job_service_pb2.BatchCreateJobsRequest: _batch_create,
    job_service_pb2.UpdateJobRequest: _update,
    job_service_pb2.WaitJobRequest: _seen,
    job_service_pb2.RetryJobRequest: _seen,
    job_service_pb2.ListJobsRequest: _filtered,
    job_service_pb2.WatchJobsRequest: _filtered,
    job_service_pb2.GetJobStatsRequest: _filtered,
    job_service_pb2.ListJobAttemptsRequest: _page,
    queue_service_pb2.ListQueuesRequest: _page,
    queue_service_pb2.PeekQueueRequest: _page,
    fleet_service_pb2.ListWorkersRequest: _page,
    admin_service_pb2.ListAuditEventsRequest: _page,
    admin_service_pb2.ListQuotasRequest: _page,
    auth_service_pb2.ListTokensRequest: _page,
    model_service_pb2.ListModelsRequest: _models,
    worker_service_pb2.RegisterWorkerRequest: _register,
    worker_service_pb2.LeaseJobsRequest: _session,
    worker_service_pb2.DeregisterWorkerRequest: _session,
    worker_service_pb2.SyncModelsRequest: _sync,
    worker_service_pb2.ReportJobsRequest: _report,
}


def _id(prefix: str, path: str, text: str) -> Iterator[Violation]:
    if not ids.read(prefix, text):
        yield Violation(path, f"must be an id such as {prefix}_0d5t8x2k4m9qc")


def _asked_for(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    size = job.annotations.ByteSize()
    if size > MAX_ANNOTATIONS_BYTES:
        yield Violation(f"{path}.annotations", f"has {size} bytes; at most {MAX_ANNOTATIONS_BYTES} are kept")
    # A search through the bytes is a thousand times quicker than a walk through the values.
    if _NOT_FINITE.search(job.SerializeToString()):
        for where, value in _structs(job, path):
            if any(not math.isfinite(number) for number in _numbers(value)):
                yield Violation(where, "holds NaN or infinity, which have no form in JSON: use null, or text")


def _structs(job: job_pb2.Job, path: str) -> Iterator[tuple[str, struct_pb2.Value]]:
    named = [(f"{path}.annotations", job.annotations)]
    match job.WhichOneof("spec"):
        case "custom":
            named.append((f"{path}.custom.params", job.custom.params))
        case "train":
            named.append((f"{path}.train.hyperparameters", job.train.hyperparameters))
    for where, struct in named:
        for name, value in struct.fields.items():
            yield f"{where}.{name}", value
    for kind, data in (("train", job.train.data), ("predict", job.predict.data)):
        rows = struct_pb2.Value(list_value=struct_pb2.ListValue())
        for row in data.table.rows:
            rows.list_value.values.add().list_value.CopyFrom(row)
        yield f"{path}.{kind}.data.table.rows", rows


def _numbers(value: struct_pb2.Value) -> Iterator[float]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        match one.WhichOneof("kind"):
            case "number_value":
                yield one.number_value
            case "struct_value":
                waiting.extend(one.struct_value.fields.values())
            case "list_value":
                waiting.extend(one.list_value.values)


def _may_be_not_finite(raw: bytes) -> bool:
    # The last byte of such a double. Text in ASCII has neither of the two.
    return b"\x7f" in raw or b"\xff" in raw


def _fits_a_lease(raw: bytes) -> bool:
    # Readers stop at 100 levels. In a batch a job lies as deep as in a lease, and one level deeper than in a request of
    # its own. Unknown fields are carried along, and can be as deep: nothing in the bytes tells.
    try:
        job_service_pb2.BatchCreateJobsRequest.FromString(b"\x0a" + varint(len(raw)) + raw)
    except (DecodeError, ValueError):
        return False
    return True


def _with_nul(message: Message, at: str = "") -> Iterator[str]:
    for field, value in message.ListFields():
        path = f"{at}{field.name}"
        if field.type == descriptor.FieldDescriptor.TYPE_STRING:
            if any("\0" in text for text in ([value] if isinstance(value, str) else value)):
                yield path
        elif field.message_type is None or field.message_type.full_name in OPAQUE:
            continue
        elif field.message_type.GetOptions().map_entry:
            if any(isinstance(text, str) and "\0" in text for pair in value.items() for text in pair):
                yield path
        elif isinstance(value, Message):
            yield from _with_nul(value, f"{path}.")
        else:
            for index, one in enumerate(value):
                yield from _with_nul(one, f"{path}[{index}].")
