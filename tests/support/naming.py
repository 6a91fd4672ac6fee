"""Of each RPC the requests that name something that somebody has, for whatever names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from towpath.v1 import (
    admin_service_pb2,
    auth_service_pb2,
    fleet_service_pb2,
    job_pb2,
    job_service_pb2,
    model_pb2,
    model_service_pb2,
    queue_service_pb2,
    worker_service_pb2,
)
from towpath_server.core.ids import read, show
from towpath_server.rpc import pages


@dataclass(frozen=True)
class Things:
    """What somebody has, by its names."""

    job: str
    over: str
    worker: str
    session: str
    queue: str
    model: str
    model_name: str
    token: str
    dedupe_key: str
    request_id: str
    user: str
    tenant: str

    def never(self, by: int) -> Things:
        """Names of the same kind that nothing ever had, others for each `by`."""
        return Things(*(_never(name, by) for name in astuple(self)))


def _never(name: str, by: int) -> str:
    kind = name.partition("_")[0]
    number = read(kind, name)
    return f"z{name[by:]}{name[: by - 1]}" if number is None else show(kind, number - by)


def _new(**fields: Any) -> job_service_pb2.CreateJobRequest:
    request_id = fields.pop("request_id", "")
    if "predict" not in fields:
        fields["custom"] = job_pb2.CustomSpec(type="echo")
    return job_service_pb2.CreateJobRequest(job=job_pb2.Job(**fields), request_id=request_id)


def _paged(request: Any, *key: int | str) -> Any:
    request.page_token = pages.token(request, key)
    return request


def _number(name: str) -> int:
    found = read(name.partition("_")[0], name)
    assert found is not None
    return found


def _report(things: Things, session: tuple[str, str]) -> worker_service_pb2.ReportJobsRequest:
    report = worker_service_pb2.Report(sequence=1, job_id=things.job, lease_token="0" * 32)
    report.started.SetInParent()
    return worker_service_pb2.ReportJobsRequest(worker_id=session[0], session_id=session[1], reports=[report])


def _update(things: Things, etag: str = "") -> job_service_pb2.UpdateJobRequest:
    request = job_service_pb2.UpdateJobRequest(job=job_pb2.Job(job_id=things.job, labels={"a": "b"}, etag=etag))
    request.update_mask.paths.append("labels")
    return request


def _filter(t: Things) -> Iterator[job_service_pb2.JobFilter]:
    yield job_service_pb2.JobFilter(queue=t.queue)
    yield job_service_pb2.JobFilter(worker_id=t.worker)
    yield job_service_pb2.JobFilter(user=t.user)


_j, _w, _q = job_service_pb2, worker_service_pb2, queue_service_pb2
# Of each RPC, the requests that name things.
NAMING: dict[str, Callable[[Things], list[Any]]] = {
    # First, as long as whoever asks has no queues: those of his own stand in the order of their names.
    "QueueService/ListQueues": lambda t: [_paged(_q.ListQueuesRequest(), t.queue)],
    "JobService/CreateJob": lambda t: [
        _new(requirements=job_pb2.Requirements(worker_id=t.worker)),
        _new(predict=job_pb2.PredictSpec(model_id=t.model)),
        _new(predict=job_pb2.PredictSpec(model_name=t.model_name)),
        _new(predict=job_pb2.PredictSpec(model_name=f"{t.model_name}@1")),
        _new(queue=t.queue),
        _new(dedupe_key=t.dedupe_key),
        _new(request_id=t.request_id),
    ],
    "JobService/BatchCreateJobs": lambda t: [
        _j.BatchCreateJobsRequest(requests=[_new(), _new(predict=job_pb2.PredictSpec(model_id=t.model))]),
        _j.BatchCreateJobsRequest(requests=[_new(predict=job_pb2.PredictSpec(model_name=t.model_name))]),
        _j.BatchCreateJobsRequest(requests=[_new(dedupe_key=t.dedupe_key, queue=t.queue, request_id=t.request_id)]),
        _j.BatchCreateJobsRequest(requests=[_new(requirements=job_pb2.Requirements(worker_id=t.worker))]),
    ],
    "JobService/GetJob": lambda t: [_j.GetJobRequest(job_id=t.job), _j.GetJobRequest(job_id=t.over)],
    "JobService/ListJobs": lambda t: [
        *(_j.ListJobsRequest(filter=wanted) for wanted in _filter(t)),
        _paged(_j.ListJobsRequest(), _number(t.job)),
    ],
    "JobService/UpdateJob": lambda t: [_update(t), _update(t, "1")],
    "JobService/DeleteJob": lambda t: [_j.DeleteJobRequest(job_id=one) for one in (t.job, t.over)],
    "JobService/CancelJob": lambda t: [_j.CancelJobRequest(job_id=one) for one in (t.job, t.over)],
    "JobService/BatchCancelJobs": lambda t: [_j.BatchCancelJobsRequest(job_ids=[t.job, t.over])],
    "JobService/PauseJob": lambda t: [_j.PauseJobRequest(job_id=one) for one in (t.job, t.over)],
    "JobService/ResumeJob": lambda t: [_j.ResumeJobRequest(job_id=one) for one in (t.job, t.over)],
    "JobService/RetryJob": lambda t: [
        *(_j.RetryJobRequest(job_id=one) for one in (t.job, t.over)),
        _j.RetryJobRequest(job_id=t.over, etag="1"),
    ],
    "JobService/WaitJob": lambda t: [_j.WaitJobRequest(job_id=t.job), _j.WaitJobRequest(job_id=t.over, etag="1")],
    "JobService/WaitJobs": lambda t: [_j.WaitJobsRequest(job_ids=[t.job, t.over])],
    "JobService/WatchJob": lambda t: [_j.WatchJobRequest(job_id=one) for one in (t.job, t.over)],
    "JobService/WatchJobs": lambda t: [_j.WatchJobsRequest(filter=wanted) for wanted in _filter(t)],
    "JobService/StreamJobLogs": lambda t: [_j.StreamJobLogsRequest(job_id=one) for one in (t.job, t.over)],
    "JobService/ListJobAttempts": lambda t: [
        _j.ListJobAttemptsRequest(job_id=t.job),
        _paged(_j.ListJobAttemptsRequest(job_id=t.over), -1),
    ],
    "JobService/ExplainJob": lambda t: [_j.ExplainJobRequest(job_id=one) for one in (t.job, t.over)],
    "JobService/GetJobStats": lambda t: [_j.GetJobStatsRequest(filter=wanted) for wanted in _filter(t)],
    "WorkerService/RegisterWorker": lambda t: [
        _w.RegisterWorkerRequest(
            worker_id=t.worker,
            name="x",
            slots=1,
            job_types=["echo"],
            held_leases=[_w.HeldLease(job_id=t.job, lease_token="0" * 32)],
        ),
    ],
    "WorkerService/LeaseJobs": lambda t: [
        _w.LeaseJobsRequest(worker_id=t.worker, session_id=t.session, poll_id="1", max_jobs=1)
    ],
    "WorkerService/ReportJobs": lambda t: [_report(t, (t.worker, t.session))],
    "WorkerService/SyncModels": lambda t: [
        _w.SyncModelsRequest(
            worker_id=t.worker, session_id=t.session, models=[model_pb2.Model(model_id=t.model, name="x")]
        )
    ],
    "WorkerService/DeregisterWorker": lambda t: [
        _w.DeregisterWorkerRequest(worker_id=t.worker, session_id=t.session),
    ],
    "FleetService/ListWorkers": lambda t: [
        _paged(fleet_service_pb2.ListWorkersRequest(include_offline=True), -_number(t.worker))
    ],
    "FleetService/GetWorker": lambda t: [fleet_service_pb2.GetWorkerRequest(worker_id=t.worker)],
    "FleetService/DrainWorker": lambda t: [fleet_service_pb2.DrainWorkerRequest(worker_id=t.worker)],
    "FleetService/RemoveWorker": lambda t: [fleet_service_pb2.RemoveWorkerRequest(worker_id=t.worker)],
    "QueueService/GetQueue": lambda t: [_q.GetQueueRequest(name=t.queue)],
    "QueueService/ResumeQueue": lambda t: [_q.ResumeQueueRequest(name=t.queue)],
    "QueueService/PeekQueue": lambda t: [
        _q.PeekQueueRequest(name=t.queue),
        _paged(_q.PeekQueueRequest(name=t.queue), 1),
    ],
    "QueueService/PauseQueue": lambda t: [_q.PauseQueueRequest(name=t.queue)],
    "AuthService/CreateToken": lambda t: [
        auth_service_pb2.CreateTokenRequest(name="x", role=auth_service_pb2.ROLE_VIEWER, tenant=t.tenant, user=t.user)
    ],
    "AuthService/ListTokens": lambda t: [_paged(auth_service_pb2.ListTokensRequest(), -_number(t.token))],
    "AuthService/RevokeToken": lambda t: [auth_service_pb2.RevokeTokenRequest(token_id=t.token)],
    "AuthService/CreateEnrollmentToken": lambda t: [
        auth_service_pb2.CreateEnrollmentTokenRequest(name="x", user=t.user)
    ],
    "ModelService/ListModels": lambda t: [
        model_service_pb2.ListModelsRequest(worker_id=t.worker),
        model_service_pb2.ListModelsRequest(name_prefix=t.model_name),
        _paged(model_service_pb2.ListModelsRequest(), -1, -_number(t.model), _number(t.worker)),
    ],
    "ModelService/GetModel": lambda t: [
        model_service_pb2.GetModelRequest(model=one) for one in (t.model, t.model_name, f"{t.model_name}@1")
    ],
    "AdminService/ListAuditEvents": lambda t: [
        admin_service_pb2.ListAuditEventsRequest(subject=t.job),
        admin_service_pb2.ListAuditEventsRequest(user=t.user),
        _paged(admin_service_pb2.ListAuditEventsRequest(), 1),
    ],
    "AdminService/ListQuotas": lambda t: [_paged(admin_service_pb2.ListQuotasRequest(), t.tenant, t.user)],
    "AdminService/SetQuota": lambda t: [
        admin_service_pb2.SetQuotaRequest(quota=admin_service_pb2.Quota(tenant=t.tenant, user=t.user, max_queued=1))
    ],
    "AdminService/DeleteQuota": lambda t: [admin_service_pb2.DeleteQuotaRequest(tenant=t.tenant, user=t.user)],
}
METHODS = {f"/towpath.v1.{name}": requests for name, requests in NAMING.items()}

# By these names a request means something that somebody has.
NAMES = frozenset(
    {
        *("job_id", "job_ids", "worker_id", "session_id", "token_id", "model_id", "model_name", "model", "queue"),
        *("dedupe_key", "request_id", "page_token", "etag", "user", "tenant", "subject"),
    }
)
# What only the scheduler or a worker's own machine says of itself, wherever it stands in a request.
TOLD = frozenset(
    {
        *("job.job_id", "job.user", "job.tenant", "job.etag", "job.progress", "job.result", "job.failure"),
        *("job.worker_id", "job.train.model_name"),
    }
)
TOLD_OF_MODELS = frozenset({"models.worker_id", "models.tenant", "models.user", "models.job_id", "models.model_id"})


def named_in(of: Any, path: str = "") -> Iterator[str]:
    """The fields of a kind of message that name something."""
    for field in of.fields:
        here = f"{path}.{field.name}" if path else field.name
        if here.removeprefix("requests.") in TOLD or here in TOLD_OF_MODELS or here.startswith("reports."):
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if _is_ours(field.message_type):
                yield from named_in(field.message_type, here)
        elif field.name in NAMES:
            yield here


def set_in(message: Message, path: str = "") -> Iterator[str]:
    """The fields that a message sets."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            yield here
        elif _is_ours(field.message_type):
            for one in value if field.is_repeated else [value]:
                yield from set_in(one, here)


def _is_ours(kind: Any) -> bool:
    """Not a map, and nothing of protobuf's own."""
    return kind.file.package == "towpath.v1" and not kind.GetOptions().map_entry


def requests_of(method: str, things: Things) -> list[Any]:
    """Those that name things; an empty one where there are none."""
    return METHODS[method](things) if method in METHODS else [b""]
