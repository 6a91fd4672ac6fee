"""What is refused before anybody acts on it, and that all of it is told at once."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, unknown_fields
from google.protobuf.message import DecodeError

from support.rpc_stage import Stage, status_of, violations_of
from towpath.v1 import job_pb2, job_service_pb2, queue_service_pb2, worker_service_pb2
from towpath_server.rpc import ruled, rules
from towpath_server.rpc.convert import wire


def found(message: Any) -> dict[str, str]:
    return {one.field: one.description for one in rules.violations(message)}


def custom(**params: Any) -> job_service_pb2.CreateJobRequest:
    request = job_service_pb2.CreateJobRequest()
    request.job.custom.type = "echo"
    request.job.custom.params.update(params)
    return request


async def test_all_that_is_wrong_comes_in_one_answer(stage: Stage) -> None:
    request = custom(rate=float("nan"))
    request.job.queue = "no spaces"
    request.job.custom.type = "train"
    request.job.labels[""] = "x"
    request.job.workspace = "a\0b"
    request.job.schedule_time.seconds = 2**60
    request.job.execution_timeout.seconds = -1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.jobs.CreateJob(request, metadata=stage.bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(violations_of(status_of(caught.value))) == {
        "job.queue",
        'job.labels[""]',
        "job.execution_timeout",
        "job.custom.type",
        "job.custom.params.rate",
        "job.schedule_time",
        "job.workspace",
    }


def test_messages_say_what_to_do() -> None:
    request = job_service_pb2.CreateJobRequest(job=job_pb2.Job(train=job_pb2.TrainSpec(), queue="/"))
    assert found(request) == {
        "job.queue": "must be at most 63 letters, digits, `.`, `_` or `-`, a letter or digit first",
        "job.train.data": "is required",
        "job.train.target_column": "must not be empty",
    }
    assert found(job_service_pb2.CreateJobRequest()) == {"job": "is required"}
    assert "job.train" in found(job_service_pb2.CreateJobRequest(job=job_pb2.Job()))["job.spec"]
    assert found(job_service_pb2.GetJobRequest(job_id="7")) == {"job_id": "must be a job id, such as job_0d5t8x2k4m9qc"}


def test_every_pattern_in_the_protos_has_words_for_people() -> None:
    assert set(_patterns()) == set(rules.PATTERNS)


def _patterns() -> set[str]:
    """Every text in the rules that begins with ^: the patterns, wherever they stand."""
    texts: set[str] = set()

    def walk(fields: Any) -> None:
        for field in fields:
            if field.wire_type == 2 and isinstance(field.data, bytes):
                if field.data.startswith(b"^"):
                    texts.add(field.data.decode())
                walk(_fields(field.data))

    def messages(of: Any) -> None:
        for message in of:
            for field in message.field:
                walk(unknown_fields.UnknownFieldSet(field.options))
            messages(message.nested_type)

    for file in ruled.rules_file().file:
        if file.package == "towpath.v1":
            messages(file.message_type)
    return texts


def _fields(raw: bytes) -> Any:
    try:
        return unknown_fields.UnknownFieldSet(descriptor_pb2.UninterpretedOption.NamePart.FromString(raw))
    except Exception:  # noqa: BLE001 - not a message
        return ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_are_refused(value: float) -> None:
    assert set(found(custom(a=1.5, deep=[{"x": [value]}]))) == {"job.custom.params.deep"}
    train = job_service_pb2.CreateJobRequest()
    train.job.train.target_column = "y"
    train.job.train.hyperparameters["eta"] = value
    train.job.train.data.table.columns.append("y")
    train.job.train.data.table.rows.add().append(value)
    train.job.annotations["x"] = value
    assert set(found(train)) == {"job.annotations.x", "job.train.hyperparameters.eta", "job.train.data.table.rows"}


def test_bytes_that_only_look_like_nan_are_taken() -> None:
    train = job_service_pb2.CreateJobRequest()
    train.job.train.target_column = "y"
    train.job.train.data.table.arrow = b"\x11" + b"\xff" * 8
    assert found(train) == {}


def test_what_could_not_be_sent_to_a_worker_is_refused() -> None:
    assert set(found(custom(big="x" * 3_600_000))) == {"job"}
    request = custom()
    request.job.annotations["big"] = "x" * 70_000
    assert set(found(request)) == {"job.annotations"}
    nested: Any = []
    for _ in range(31):
        nested = {"a": nested}
    accepted = custom(deep=nested)
    assert found(accepted) == {}
    lease = worker_service_pb2.LeaseJobsResponse(leases=[worker_service_pb2.Lease(job=accepted.job)])
    assert worker_service_pb2.LeaseJobsResponse.FromString(lease.SerializeToString()) == lease


def test_unknown_fields_that_lie_too_deep_are_refused() -> None:
    start, end = b"\xfb\x3f", b"\xfc\x3f"
    for levels, is_sound in ((40, True), (99, False)):
        # What upb does not know it carries along: groups of field 1023, one in another.
        job = custom().job.SerializeToString() + start * levels + end * levels
        request = job_service_pb2.CreateJobRequest.FromString(wire.nested(wire.tag(1), job))
        assert (found(request) == {}) is is_sound, levels
        lease = wire.nested(wire.tag(1), wire.nested(wire.tag(1), request.job.SerializeToString()))
        if is_sound:
            assert worker_service_pb2.LeaseJobsResponse.FromString(lease).leases[0].job.custom.type == "echo"
        else:
            with pytest.raises(DecodeError):
                worker_service_pb2.LeaseJobsResponse.FromString(lease)


@pytest.mark.parametrize("path", ["queue", "state", "custom.params", "", "*"])
def test_an_update_of_what_cannot_change_is_refused(path: str) -> None:
    request = job_service_pb2.UpdateJobRequest(job=job_pb2.Job(job_id="job_0000000000001"))
    request.update_mask.paths.append(path)
    assert set(found(request)) == {"update_mask"}


def test_ids_and_tokens_are_looked_at() -> None:
    listing = job_service_pb2.ListJobsRequest(page_token="made-up")
    listing.filter.worker_id = "job_0000000000001"
    assert set(found(listing)) == {"filter.worker_id", "page_token"}
    assert set(found(queue_service_pb2.ListQueuesRequest(page_token="é"))) == {"page_token"}
    assert set(found(job_service_pb2.WaitJobRequest(job_id="job_0000000000001", etag="abc"))) == {"etag"}
    report = worker_service_pb2.ReportJobsRequest()
    report.reports.add()
    assert set(found(report)) == {
        "reports[0]",
        "reports[0].sequence",
        "reports[0].lease_token",
        "reports[0].job_id",
    }
