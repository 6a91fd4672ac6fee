"""Requests for the scheduler, built from Python values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, cast

from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from towpath import process
from towpath.enums import JobState, TaskType, WorkerShare
from towpath.errors import InvalidArgument
from towpath.options import JobOptions, SubmitOptions, apply_dedupe, apply_options, text_map
from towpath.tables import TableLike, to_data_ref
from towpath.v1 import auth_service_pb2, job_pb2, job_service_pb2, model_pb2, worker_pb2
from towpath.values import fill_struct, to_struct

MODEL_ID = re.compile(r"mdl_[0-7][0-9a-hjkmnp-tv-z]{12}")
MADE_OTHERWISE = (
    "This scheduler is an older Towpath: it makes tokens of your own tenant only, whose workers share nothing. What it "
    "made was revoked at once."
)
MAX_BATCH = 1_000
MAX_BATCH_BYTES = 2 * 1024 * 1024
BUILT_IN: Mapping[str, type[Message]] = {
    "train": job_pb2.TrainSpec,
    "predict": job_pb2.PredictSpec,
    "list_models": job_pb2.ListModelsSpec,
}
UPDATABLE = frozenset(
    {
        "priority",
        "labels",
        "annotations",
        "queue_timeout",
        "execution_timeout",
        "stall_timeout",
        "total_timeout",
        "cancel_grace",
        "ttl",
    }
)


class JobFilters(TypedDict, total=False):
    """Which jobs; all that is given must hold. `states` by name, in any case."""

    states: Iterable[str | JobState]
    queue: str | None
    job_type: str | None
    user: str | None
    workspace: str | None
    labels: Mapping[str, str] | None
    worker_id: str | None


def create(job: job_pb2.Job, options: SubmitOptions | JobOptions) -> job_service_pb2.CreateJobRequest:
    """A request for a new job, with a request_id, so that a repeated call gives the same job."""
    if not options:
        return job_service_pb2.CreateJobRequest(job=job, request_id=process.new_id())
    rest = dict(options)
    request_id = cast("str | None", rest.pop("request_id", None))
    apply_dedupe(job, cast(Any, rest.pop("dedupe_key", None)), cast(Any, rest.pop("on_conflict", None)))
    apply_options(job, cast(JobOptions, rest))
    return job_service_pb2.CreateJobRequest(job=job, request_id=request_id or process.new_id())


def series(
    job_type: str, params: Iterable[Mapping[str, Any]], options: JobOptions
) -> Iterator[job_service_pb2.CreateJobRequest]:
    """A request for each of the params, all with the same options, which are read once."""
    own_time = options.get("delay") is not None
    alike = create(job_pb2.Job(), options)
    for number, one in enumerate(params):
        request = job_service_pb2.CreateJobRequest()
        request.CopyFrom(create(job_pb2.Job(), options) if own_time else alike)
        request.request_id = f"{alike.request_id}-{number}"
        put_spec(request.job, job_type, one)
        yield request


def with_spec(job: job_pb2.Job, submitted: job_pb2.Job) -> job_pb2.Job:
    """A job with the spec that its submitter gave it, where the scheduler left that out."""
    kind = submitted.WhichOneof("spec")
    if kind is not None and job.WhichOneof("spec") is None:
        getattr(job, kind).CopyFrom(getattr(submitted, kind))
    return job


def job_of(job_type: str, params: Mapping[str, Any] | None) -> job_pb2.Job:
    """A job of any type. For `train`, `predict` and `list_models` the params are the fields of their spec."""
    job = job_pb2.Job()
    put_spec(job, job_type, params)
    return job


def put_spec(job: job_pb2.Job, job_type: str, params: Mapping[str, Any] | None) -> None:
    """Writes type and params into a new job."""
    if job_type not in BUILT_IN:
        job.custom.type = job_type
        fill_struct(job.custom.params, params or {}, "params")
        return
    fields = BUILT_IN[job_type].DESCRIPTOR.fields_by_name
    if unknown := sorted(set(params or ()) - set(fields)):
        raise InvalidArgument(f"{job_type} does not take {', '.join(unknown)}. Its params: {', '.join(fields)}.")
    spec = getattr(job, job_type)
    spec.SetInParent()
    try:
        json_format.ParseDict(json_format.MessageToDict(to_struct(params or {}, "params")), spec)
    except json_format.ParseError as error:
        raise InvalidArgument(f"The params do not fit {job_type}: {str(error).splitlines()[0]}") from None


def train(
    data: TableLike,
    target: str,
    *,
    model_type: str,
    task_type: str | TaskType | None,
    features: Sequence[str] | None,
    hyperparameters: Mapping[str, Any] | None,
    test_size: float | None,
    seed: int | None,
    name: str,
    early_stopping_rounds: int | None,
) -> job_pb2.Job:
    """A job that trains a model."""
    if isinstance(features, str):
        raise InvalidArgument("features must be a list of columns, not text.")
    spec = job_pb2.TrainSpec(
        data=to_data_ref(data),
        task_type=task_type_number(task_type),
        model_type=model_type,
        target_column=target,
        feature_columns=features or (),
        test_size=test_size,
        random_seed=seed,
        model_name=name,
        early_stopping_rounds=early_stopping_rounds or 0,
    )
    if hyperparameters is not None:
        spec.hyperparameters.CopyFrom(to_struct(hyperparameters, "hyperparameters"))
    return job_pb2.Job(train=spec)


def predict(model: str, data: TableLike, *, probabilities: bool, output_path: str) -> job_pb2.Job:
    """A job that predicts with a model, by id, `name` or `name@version`."""
    spec = job_pb2.PredictSpec(data=to_data_ref(data), probabilities=probabilities, output_path=str(output_path))
    if MODEL_ID.fullmatch(model):
        spec.model_id = model
    else:
        spec.model_name = model
    return job_pb2.Job(predict=spec)


def list_models(
    *, name_prefix: str, model_type: str, task_type: str | TaskType | None, limit: int | None
) -> job_pb2.Job:
    """A job that lists the models on a worker's machine."""
    spec = job_pb2.ListModelsSpec(
        name_prefix=name_prefix, model_type=model_type, task_type=task_type_number(task_type), limit=limit or 0
    )
    return job_pb2.Job(list_models=spec)


def update(job_id: str, etag: str, options: JobOptions) -> job_service_pb2.UpdateJobRequest:
    """A change of exactly the options that are given; None as a timeout takes it away."""
    if not options or (wrong := sorted(set(options) - UPDATABLE)):
        what = f"Cannot change {', '.join(wrong)}." if options else "Nothing to change."
        raise InvalidArgument(f"{what} Give some of: {', '.join(sorted(UPDATABLE))}.")
    job = job_pb2.Job(job_id=job_id, etag=etag)
    apply_options(job, options)
    return job_service_pb2.UpdateJobRequest(job=job, update_mask=FieldMask(paths=sorted(options)))


def job_filter(filters: JobFilters) -> job_service_pb2.JobFilter:
    """A filter for lists, watches and counts."""
    states = filters.get("states", ())
    message = job_service_pb2.JobFilter(
        states=[
            job_pb2.JobState.Value(JobState.parse(state).wire_name)
            for state in ([states] if isinstance(states, str) else states)
        ],
        labels=text_map(filters.get("labels") or {}, "labels"),
    )
    for name in ("queue", "job_type", "user", "workspace", "worker_id"):
        setattr(message, name, filters.get(name) or "")
    return message


def task_type_number(task_type: str | TaskType | None) -> model_pb2.TaskType.ValueType:
    """The contract's number of a task type; 0 for None."""
    if task_type is None:
        return model_pb2.TASK_TYPE_UNSPECIFIED
    return model_pb2.TaskType.Value(TaskType.parse(task_type).wire_name)


def share_number(share: str | WorkerShare | None) -> worker_pb2.WorkerShare.ValueType:
    """The contract's number for how much a worker shares; 0 for None."""
    if share is None:
        return worker_pb2.WORKER_SHARE_UNSPECIFIED
    return worker_pb2.WorkerShare.Value(WorkerShare.parse(share).wire_name)


def is_as_asked(request: auth_service_pb2.CreateTokenRequest, made: auth_service_pb2.Token) -> bool:
    """Whether a token was made of the tenant and with the share asked for: an older scheduler knows neither."""
    shared = request.share != worker_pb2.WORKER_SHARE_TENANT or made.share == request.share
    return shared and made.tenant == (request.tenant or made.tenant)


def batches(
    creates: Iterable[job_service_pb2.CreateJobRequest], *, most: int = MAX_BATCH, most_bytes: int = MAX_BATCH_BYTES
) -> Iterator[list[job_service_pb2.CreateJobRequest]]:
    """The requests in batches that the scheduler takes: so many, and so many bytes."""
    batch: list[job_service_pb2.CreateJobRequest] = []
    size = 0
    for request in creates:
        bytes_more = request.ByteSize()
        if batch and (len(batch) == most or size + bytes_more > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(request)
        size += bytes_more
    if batch:
        yield batch
