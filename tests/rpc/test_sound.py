"""The quick look at messages: never surer than the validator, and sure of what is ordinary."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor

from towpath.v1 import job_pb2, job_service_pb2, queue_service_pb2, worker_service_pb2
from towpath_server.rpc import checks, ruled, rules, sound
from towpath_server.rpc.server import SERVICES

MESSAGES = 4_000
TEXTS = (
    *("", "a", "a\n", "a\0b", "é" * 100, "x" * 63, "x" * 64, "x" * 101, "x" * 501, "default", "no spaces", "\n", "v@1"),
    *("job_0d5t8x2k4m9qc", "tok_0d5t8x2k4m9qc", "wkr_0d5t8x2k4m9qc", "mdl_0d5t8x2k4m9qc", "create_time desc"),
)
INTEGERS = (0, 1, 2, 3, 7, 50, 999, 1000, 1001, 315_360_000, 2**31 - 1, -1)
DOUBLES = (0.0, 0.2, 1.0, 2.0, 100.0, 100.5, -1.0, math.nan, math.inf)


def requests() -> Iterator[str]:
    for name in SERVICES:
        for method in ruled.pool().FindServiceByName(name).methods:
            yield method.input_type.full_name


def scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return rng.choice(TEXTS)
        case FieldDescriptor.TYPE_BYTES:
            return rng.choice((b"", b"\0", b"ARROW1"))
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            return rng.choice(DOUBLES)
        case FieldDescriptor.TYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            return rng.choice((0, 1, 2, 3, 4, 99))
    return rng.choice(INTEGERS)


def fill(message: Any, rng: random.Random, depth: int = 0) -> Any:
    """Any fields with any values, sound or not."""
    many = rng.choice((0.05, 0.2, 0.5)) if depth else 0.7
    for field in message.DESCRIPTOR.fields:
        if rng.random() > many or (depth > 5 and field.message_type is not None):
            continue
        values = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            for _ in range(rng.choice((1, 2, 17))):
                at = scalar(key, rng)
                if value.message_type is None:
                    values[at] = scalar(value, rng)
                else:
                    fill(values[at], rng, depth + 1)
        elif field.message_type is not None:
            for one in [values.add() for _ in range(2)] if field.is_repeated else [values]:
                one.SetInParent()
                fill(one, rng, depth + 1)
        elif field.is_repeated:
            values.extend(scalar(field, rng) for _ in range(rng.choice((1, 2, 3))))
        else:
            setattr(message, field.name, scalar(field, rng))
    return message


def wrong(message: Any, raw: bytes) -> list[Any]:
    """What the validator finds, and text with a NUL."""
    found = rules.validator().collect_violations(ruled.message_class(message.DESCRIPTOR.full_name).FromString(raw))
    return [*found, *checks.with_nul(message, raw)]


def test_what_is_surely_sound_is_sound() -> None:
    rng = random.Random(4)
    kinds = [
        message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name)) for name in requests()
    ]
    sure = unsound = 0
    for number in range(MESSAGES):
        message = fill(kinds[number % len(kinds)](), rng)
        raw = message.SerializeToString()
        found = wrong(message, raw)
        unsound += bool(found)
        if sound.is_sure(message, raw):
            sure += 1
            assert not found, message
    # It has seen both.
    assert sure > MESSAGES // 20
    assert unsound > MESSAGES // 20


def ordinary() -> Iterator[Any]:
    """Sound requests that carry every kind of rule that the protos have."""
    job = job_pb2.Job(queue="default", labels={"team": "a"}, dedupe_key="once", priority=job_pb2.PRIORITY_HIGH)
    job.execution_timeout.seconds = 60
    job.cancel_grace.SetInParent()
    job.retry_policy.max_attempts = 3
    job.retry_policy.multiplier = 2
    job.retry_policy.jitter = 0.5
    job.retry_policy.non_retryable_types.append("ValueError")
    job.requirements.worker_id = "wkr_0d5t8x2k4m9qc"
    job.max_lost = 0
    job.custom.type = "echo"
    job.custom.params.update({"x": 1.5, "deep": [{"a": None}]})
    custom = job_service_pb2.CreateJobRequest(job=job, request_id="one")
    train = job_service_pb2.CreateJobRequest()
    train.job.train.target_column = "y"
    train.job.train.test_size = 0.2
    train.job.train.feature_columns.extend(["a", "b"])
    train.job.train.data.table.columns.append("y")
    train.job.train.data.table.rows.add().append(1)
    predict = job_service_pb2.CreateJobRequest()
    predict.job.predict.model_name = "flights@3"
    predict.job.predict.data.path = "flights.csv"
    listing = job_service_pb2.CreateJobRequest(job=job_pb2.Job(list_models=job_pb2.ListModelsSpec(limit=3)))
    yield from (custom, train, predict, listing)
    yield job_service_pb2.BatchCreateJobsRequest(requests=[custom, train, predict, listing])
    yield job_service_pb2.GetJobRequest(job_id="job_0d5t8x2k4m9qc", view=job_pb2.JOB_VIEW_FULL)
    yield job_service_pb2.ListJobsRequest(
        page_size=100, filter=job_service_pb2.JobFilter(states=[job_pb2.JOB_STATE_QUEUED])
    )
    yield queue_service_pb2.PeekQueueRequest(name="default")
    lease = worker_service_pb2.LeaseJobsRequest(worker_id="w", session_id="s", poll_id="p", max_jobs=8)
    lease.wait_timeout.seconds = 25
    yield lease
    report = worker_service_pb2.ReportJobsRequest(worker_id="w")
    report.reports.add(sequence=1).log.text = "a\0b"
    yield report


@pytest.mark.parametrize("message", list(ordinary()), ids=lambda message: type(message).__name__)
def test_what_is_ordinary_is_surely_sound(message: Any) -> None:
    raw = message.SerializeToString()
    assert wrong(message, raw) == []
    assert sound.is_sure(message, raw)


def test_threads_that_need_the_rules_at_once_get_the_same() -> None:
    """The first calls come while the rules are made ready for them."""
    ruled._pool.cache_clear()
    ruled.message_class.cache_clear()
    sound._request.cache_clear()
    request = job_service_pb2.CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="echo")))
    begin = threading.Barrier(4)

    def look(_: int) -> bool:
        begin.wait()
        return sound.is_sure(request, request.SerializeToString())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(look, range(4)))
