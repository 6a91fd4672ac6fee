"""Requests built from Python values, and what they refuse."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath import JobState, Priority, Requirements, RetryPolicy, requests
from towpath.errors import InvalidArgument
from towpath.options import SubmitOptions
from towpath.v1 import job_pb2, model_pb2
from towpath.values import from_struct, from_value, to_struct, to_value

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=20,
)


class Colour(Enum):
    RED = "red"


@given(JSON)
def test_json_comes_back_as_it_went(sent: Any) -> None:
    assert from_value(to_value(sent, "x")) == sent


def test_whole_numbers_come_back_whole() -> None:
    assert [type(from_value(to_value(number, "x"))) for number in (3, 3.0, 3.5, 1e300)] == [int, int, float, float]


def test_other_plain_things_are_written_as_json_has_them() -> None:
    sent = {
        "tuple": (1, 2),
        "day": date(2026, 1, 2),
        "path": PurePosixPath("a/b"),
        "enum": Colour.RED,
        "numpy": np.int64(3),
        "array": np.array([[1.5, 2.0]]),
        "bool": np.bool_(True),
    }
    assert from_struct(to_struct(sent, "params")) == {
        "tuple": [1, 2],
        "day": "2026-01-02",
        "path": "a/b",
        "enum": "red",
        "numpy": 3,
        "array": [[1.5, 2]],
        "bool": True,
    }


def deep(levels: int) -> dict[str, Any]:
    return {"a": deep(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"a": [1, {2}]}, r"params\.a\[1\]: cannot send a set"),
        ({"a": {"b": math.nan}}, r"params\.a\.b: is nan"),
        ({"a": math.inf}, r"params\.a: is inf"),
        ({"a": 2**53 + 1}, r"params\.a: is a whole number past 2\*\*53"),
        ({"a": "\ud800"}, "surrogate"),
        ({"a": b"x"}, "cannot send a bytes"),
        ({1: "a"}, "keys must be text"),
        (deep(31), "levels deep"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_name(sent: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        requests.job_of("count", sent)
    assert len(caught.value.violations) == 1


def test_the_deepest_value_survives_the_wire() -> None:
    job = requests.job_of("count", deep(29))
    assert job_pb2.Job.FromString(job.SerializeToString()) == job


def created(**options: Any) -> job_pb2.Job:
    return requests.create(requests.job_of("count", None), cast(SubmitOptions, options)).job


def test_every_option_finds_its_field() -> None:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    job = created(
        queue="q",
        priority=Priority.LOW,
        labels={"a": "b"},
        annotations={"c": 1},
        workspace="w",
        schedule_time=moment,
        queue_timeout=1,
        execution_timeout=timedelta(minutes=2),
        stall_timeout=0.5,
        total_timeout=4,
        cancel_grace=0,
        ttl=6,
        retries=RetryPolicy(max_attempts=4, initial_backoff=0.5, jitter=0.0, non_retryable_types=("KeyError",)),
        max_lost=0,
        requirements=Requirements(gpu_count=1, worker_labels={"rack": "7"}),
        dedupe_key="k",
        on_conflict="return-existing",
    )
    assert (job.queue, job.priority, dict(job.labels), job.workspace) == (
        "q",
        job_pb2.PRIORITY_LOW,
        {"a": "b"},
        "w",
    )
    assert job.schedule_time.ToDatetime(UTC) == moment
    lengths = (job.queue_timeout, job.execution_timeout, job.stall_timeout, job.total_timeout, job.ttl)
    assert [length.ToMicroseconds() / 1e6 for length in lengths] == [1, 120, 0.5, 4, 6]
    assert job.HasField("cancel_grace")
    assert (job.retry_policy.max_attempts, job.retry_policy.HasField("jitter"), job.HasField("max_lost")) == (
        4,
        True,
        True,
    )
    assert (job.dedupe_key, job.conflict_policy) == ("k", job_pb2.CONFLICT_POLICY_RETURN_EXISTING)
    assert (job.requirements.gpu_count, dict(job.requirements.worker_labels)) == (1, {"rack": "7"})


def test_what_is_left_out_is_left_to_the_scheduler() -> None:
    job = created(priority="normal", labels=None, ttl=None, retries=None, dedupe_key=None, on_conflict=None)
    assert [field.name for field, _ in job.ListFields()] == ["priority", "custom"]


def test_retries_as_a_number_count_the_tries_after_the_first() -> None:
    assert created(retries=2).retry_policy.max_attempts == 3
    assert created(requirements={"cpu_count": 4}).requirements.cpu_count == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": "urgent"}, "'urgent' is no Priority. Take one of: low, normal, high, critical"),
        ({"timeout": 3}, "Unknown option timeout"),
        ({"dedupe_key": "k", "on_conflict": "keep"}, "Take one of: reject, return_existing, replace"),
        ({"on_conflict": "replace"}, "on_conflict needs a dedupe_key"),
        ({"dedupe_key": "", "on_conflict": "replace"}, "on_conflict needs a dedupe_key"),
        ({"requirements": {"gpus": 1}}, "Unknown requirement gpus"),
        ({"requirements": {"cpu_count": "four"}}, "requirements"),
        ({"labels": {"a": 1}}, "labels: .* look at a"),
        ({"ttl": "7d"}, "ttl: give seconds"),
        ({"ttl": math.nan}, "ttl: give seconds"),
        ({"ttl": 1e300}, "ttl: is too long"),
        ({"schedule_time": datetime(2026, 1, 1)}, "time zone"),
        ({"delay": 1, "schedule_time": datetime(2026, 1, 1, tzinfo=UTC)}, "not both"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        created(**options)


def test_built_in_types_take_the_fields_of_their_spec() -> None:
    job = requests.job_of("train", {"target_column": "late", "data": {"path": "f.csv"}, "test_size": 0.3})
    assert (job.train.target_column, job.train.data.path, job.train.test_size) == ("late", "f.csv", 0.3)
    assert requests.job_of("list_models", None).HasField("list_models")
    with pytest.raises(InvalidArgument, match=r"train does not take target\. Its params: data, task_type"):
        requests.job_of("train", {"target": "late"})
    with pytest.raises(InvalidArgument, match=r"do not fit train: .*test_size"):
        requests.job_of("train", {"test_size": "large"})


def test_a_model_is_named_by_id_or_by_name() -> None:
    by_id = requests.predict("mdl_0123456789abc", "f.csv", probabilities=False, output_path="").predict
    by_name = requests.predict("late@3", "f.csv", probabilities=True, output_path="out.csv").predict
    assert (by_id.model_id, by_id.model_name) == ("mdl_0123456789abc", "")
    assert (by_name.model_id, by_name.model_name, by_name.output_path) == ("", "late@3", "out.csv")


def test_enums_take_their_names_in_any_spelling() -> None:
    assert JobState.parse("timed-out") is JobState.parse("JOB_STATE_TIMED_OUT") is JobState.TIMED_OUT
    assert requests.task_type_number("regression") == model_pb2.TASK_TYPE_REGRESSION
    assert requests.job_filter({"states": "running"}).states == [job_pb2.JOB_STATE_RUNNING]
    with pytest.raises(InvalidArgument):
        requests.job_filter({"states": ["sleeping"]})


def test_an_update_names_exactly_what_is_given() -> None:
    request = requests.update("job_x", "7", {"priority": "high", "ttl": None})
    assert (request.job.etag, list(request.update_mask.paths)) == ("7", ["priority", "ttl"])
    assert not request.job.HasField("ttl")
    for wrong in ({}, {"queue": "other"}):
        with pytest.raises(InvalidArgument, match="cancel_grace"):
            requests.update("job_x", "", cast(Any, wrong))
