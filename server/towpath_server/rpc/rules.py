"""What a request must be before anybody acts on it: the rules of the protos and those of `checks`, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.message import Message

from towpath.v1 import job_service_pb2, worker_service_pb2
from towpath_server.core.errors import InvalidArgument, Violation
from towpath_server.rpc import checks, ruled, sound

if TYPE_CHECKING:
    import protovalidate

# What to say instead of a regular expression.
PATTERNS: Mapping[str, str] = {
    "^job_[0-7][0-9a-hjkmnp-tv-z]{12}$": "must be a job id, such as job_0d5t8x2k4m9qc",
    "^tok_[0-7][0-9a-hjkmnp-tv-z]{12}$": "must be a token id, such as tok_0d5t8x2k4m9qc",
    "^wkr_[0-7][0-9a-hjkmnp-tv-z]{12}$": "must be a worker id, such as wkr_0d5t8x2k4m9qc",
    "^(wkr_[0-7][0-9a-hjkmnp-tv-z]{12})?$": "must be a worker id, such as wkr_0d5t8x2k4m9qc, or empty",
    "^(mdl_[0-7][0-9a-hjkmnp-tv-z]{12})?$": "must be a model id, such as mdl_0d5t8x2k4m9qc, or empty",
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$": "must be 1 to 63 letters, digits, `.`, `_` or `-`, a letter or digit first",
    "^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$": (
        "must be at most 63 letters, digits, `.`, `_` or `-`, a letter or digit first"
    ),
    "^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$": (
        "must be at most 100 letters, digits, `.`, `_` or `-`, a letter or digit first"
    ),
    "^([A-Za-z0-9][A-Za-z0-9._@-]{0,99})?$": (
        "must be at most 100 letters, digits, `.`, `_`, `@` or `-`, a letter or digit first"
    ),
    "^[A-Za-z][A-Za-z0-9._-]{0,99}$": "must be 1 to 100 letters, digits, `.`, `_` or `-`, a letter first",
    "^([A-Za-z0-9][A-Za-z0-9._-]{0,99}(@[0-9]{1,9})?)?$": "must be a model's name, or name@version",
    "^(create_time( desc| asc)?)?$": "must be `create_time`, `create_time asc` or `create_time desc`",
}
_WORDS: Mapping[str, str] = {
    "value is required": "is required",
    "value must be one of the defined enum values": "is not a value of this enum",
    "must be at least 1 characters": "must not be empty",
}


OFTEN = (
    *(job_service_pb2.CreateJobRequest, job_service_pb2.BatchCreateJobsRequest, job_service_pb2.GetJobRequest),
    *(job_service_pb2.WaitJobRequest, job_service_pb2.ListJobsRequest, job_service_pb2.WatchJobsRequest),
    *(worker_service_pb2.RegisterWorkerRequest, worker_service_pb2.LeaseJobsRequest),
    worker_service_pb2.ReportJobsRequest,
)


def check(message: Message, raw: bytes | None = None) -> None:
    """Raise InvalidArgument with everything that is wrong with the message; `raw` is what it was parsed from."""
    found = violations(message, raw)
    if found:
        raise InvalidArgument(tuple(found))


def violations(message: Message, raw: bytes | None = None) -> list[Violation]:
    """Everything that is wrong with the message."""
    raw = message.SerializeToString() if raw is None else raw
    if sound.is_sure(message, raw):
        return checks.violations(message, raw)
    found = [_violation(one) for one in validator().collect_violations(_ruled(message, raw))]
    seen = {one.field for one in found}
    others = checks.violations(message, raw) + checks.with_nul(message, raw)
    return found + [one for one in others if one.field not in seen]


def prepare() -> None:
    """Have the functions ready for what is called all the time, so that no first call has to wait for them."""
    for kind in OFTEN:
        sound.prepare(kind)


@cache
def validator() -> protovalidate.Validator:
    """The validator, which takes a tenth of a second to import: what is sound has no need of it."""
    import protovalidate

    return protovalidate.Validator()


def _ruled(message: Message, raw: bytes) -> Message:
    """The message with its rules, without what no rule looks at: the validator takes microseconds for each value."""
    # The fields of a class that is made here are not known to mypy.
    copy: Any = ruled.message_class(message.DESCRIPTOR.full_name).FromString(raw)
    match message:
        case job_service_pb2.CreateJobRequest() | job_service_pb2.UpdateJobRequest():
            _lighten(copy)
        case job_service_pb2.BatchCreateJobsRequest():
            for request in copy.requests:
                _lighten(request)
        case worker_service_pb2.RegisterWorkerRequest() | worker_service_pb2.SyncModelsRequest():
            for model in copy.models:
                model.Clear()
        case worker_service_pb2.ReportJobsRequest():
            for report in copy.reports:
                report.Clear()
    return cast("Message", copy)


def _lighten(request: Any) -> None:
    # To clear a field of a job that is not there would bring the job into being.
    if not request.HasField("job"):
        return
    job = request.job
    job.ClearField("annotations")
    match job.WhichOneof("spec"):
        case "custom":
            job.custom.ClearField("params")
        case "train":
            job.train.ClearField("hyperparameters")
            _lighten_table(job.train.data)
        case "predict":
            _lighten_table(job.predict.data)


def _lighten_table(data: Any) -> None:
    if data.WhichOneof("source") == "table":
        del data.table.rows[1:]


def _violation(one: protovalidate.Violation) -> Violation:
    proto = one.proto
    text = _WORDS.get(proto.message, proto.message)
    if proto.rule_id == "string.pattern":
        text = PATTERNS.get(str(one.rule_value), text)
    return Violation(_path(proto.field) or proto.rule_id, text)


def _path(field: protovalidate.FieldPathPb | None) -> str:
    steps = []
    for element in field.elements if field is not None else ():
        subscript = element.subscript
        if subscript is None:
            steps.append(element.field_name)
        elif isinstance(subscript.value, str):
            steps.append(f'{element.field_name}["{subscript.value}"]')
        else:
            steps.append(f"{element.field_name}[{subscript.value}]")
    return ".".join(steps)
