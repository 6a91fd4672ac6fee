"""Line 20 of the catalogue: what no store could keep is refused before any store sees it, on every kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from support.rpc_stage import Stage, raw_unary, reason_of, stage, status_of, violations_of
from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.ids import show
from towpath_server.store.memory import MemoryStore
from towpath_server.store.sqlite import SqliteStore

CREATE = "/towpath.v1.JobService/CreateJob"
LARGEST_ID = (1 << 63) - 1


@pytest.fixture(name="at", params=["memory", "sqlite"])
async def _at(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "towpath.db")
    async with stage(store) as one:
        yield one
        # Nothing of what a test sent was stored, and the server goes on.
        assert not (await one.jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=one.bearer())).jobs
        assert (await one.create()).state == job_pb2.JOB_STATE_QUEUED


def valid() -> job_service_pb2.CreateJobRequest:
    """A request that would be taken."""
    request = job_service_pb2.CreateJobRequest()
    request.job.custom.type = "echo"
    return request


Step = FieldDescriptor
# Their texts and numbers are opaque to the scheduler, and the first of them has no end.
# What only the scheduler fills in: of a submitter it is not read.
OUTPUT_ONLY = ("progress", "result", "failure")
FREE_FORM = ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue", "towpath.v1.InlineTable")


def places(of: Descriptor, kinds: set[int], path: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """Every way to a field of these kinds that a submitter can fill, and no deeper into a kind of message than once."""
    for field in of.fields:
        if field.message_type is None:
            if field.type in kinds:
                yield (*path, field)
        elif (
            field.message_type.full_name not in FREE_FORM
            and field.name not in OUTPUT_ONLY
            and field.message_type not in [step.message_type for step in path]
        ):
            yield from places(field.message_type, kinds, (*path, field))


def filled(path: tuple[Step, ...], value: Any) -> job_service_pb2.CreateJobRequest:
    """A request that holds the value there."""
    request = valid()
    message: Any = request
    *way, last = path
    for step in way:
        inside = getattr(message, step.name)
        if step.message_type is not None and step.message_type.GetOptions().map_entry:
            # All maps are from text to text.
            inside.update({value: ""} if last.name == "key" else {"key": value})
            return request
        message = inside.add() if step.is_repeated else inside
    if last.is_repeated:
        getattr(message, last.name).append(value)
    else:
        setattr(message, last.name, value)
    return request


def called(path: tuple[Step, ...]) -> str:
    return ".".join(step.name for step in path)


def find(*kinds: int) -> list[tuple[Step, ...]]:
    return list(places(job_service_pb2.CreateJobRequest.DESCRIPTOR, set(kinds)))


STRINGS = find(FieldDescriptor.TYPE_STRING)
FLOATS = find(FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)


def test_the_walk_finds_what_a_submitter_can_fill() -> None:
    names = {called(path) for path in STRINGS}
    assert {
        "request_id",
        "job.queue",
        "job.workspace",
        "job.labels.key",
        "job.labels.value",
        "job.custom.type",
    } <= names
    assert {"job.train.target_column", "job.train.data.path", "job.requirements.worker_id", "job.dedupe_key"} <= names
    assert "job.retry_policy.non_retryable_types" in names
    assert {"job.retry_policy.multiplier", "job.retry_policy.jitter"} <= {called(path) for path in FLOATS}


async def refused(at: Stage, raw: bytes) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw_unary(at.channel, CREATE)(raw, metadata=at.bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value
    assert len(status_of(caught.value).SerializeToString()) < 4096
    return caught.value


async def test_line_20_a_nul_in_any_text_is_refused(at: Stage) -> None:
    for path in STRINGS:
        error = await refused(at, filled(path, "a\0b").SerializeToString())
        told = violations_of(status_of(error))
        assert any(path[1 if len(path) > 1 else 0].name in where for where in told), (called(path), told)


async def test_line_20_a_lone_surrogate_in_any_text_is_refused(at: Stage) -> None:
    requests = [filled(path, "~~~") for path in STRINGS]
    for fill in FREE_FORMS:
        request = valid()
        fill(request.job, {"~~~": 1})
        fill(request.job, {"key": "~~~"})
        requests.append(request)
    for request in requests:
        raw = request.SerializeToString()
        assert b"~~~" in raw
        for surrogate in (b"\xed\xa0\x80", b"\xed\xbf\xbf"):
            assert reason_of(await refused(at, raw.replace(b"~~~", surrogate))) == "MALFORMED_REQUEST"


def into_annotations(job: job_pb2.Job, value: dict[str, Any]) -> None:
    job.annotations.update(value)


def into_params(job: job_pb2.Job, value: dict[str, Any]) -> None:
    job.custom.params.update(value)


def into_hyperparameters(job: job_pb2.Job, value: dict[str, Any]) -> None:
    train(job).train.hyperparameters.update(value)


def into_a_table(job: job_pb2.Job, value: Any) -> None:
    train(job).train.data.table.rows.add().extend([value])


def train(job: job_pb2.Job) -> job_pb2.Job:
    """The job with a spec in which nothing else is wrong."""
    job.train.target_column = "y"
    job.train.data.table.columns[:] = ["y"]
    return job


FREE_FORMS: tuple[Callable[[job_pb2.Job, dict[str, Any]], None], ...] = (
    into_annotations,
    into_params,
    into_hyperparameters,
    into_a_table,
)


async def test_line_20_numbers_that_json_does_not_have_are_refused_wherever_they_stand(at: Stage) -> None:
    for number in (float("nan"), float("inf"), float("-inf")):
        for path in FLOATS:
            error = await refused(at, filled(path, number).SerializeToString())
            assert any(path[-1].name in where for where in violations_of(status_of(error))), called(path)
        for fill in FREE_FORMS:
            for value in (number, [1, [number]], {"deep": [{"er": number}]}):
                request = valid()
                fill(request.job, {"here": value})
                told = violations_of(status_of(await refused(at, request.SerializeToString())))
                assert any("NaN" in words for words in told.values()), told


def nested(levels: int, open_: bytes, more: bytes) -> bytes:
    """A message in a message in a message: each level is `open_`, the length of all that follows, and `more`."""
    pieces: list[bytes] = []
    size = 0
    for _ in range(levels):
        for tag in (more, open_):
            head = tag + varint(size)
            pieces.append(head)
            size += len(head)
    return b"".join(reversed(pieces))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def deep_list(levels: int) -> bytes:
    """A Value (list_value = 6) whose ListValue (values = 1) holds a Value, and so on."""
    return nested(levels, b"\x32", b"\x0a")


async def test_line_20_what_is_20_000_deep_is_refused(at: Stage) -> None:
    job = job_pb2.Job.DESCRIPTOR.fields_by_name
    custom = job_pb2.CustomSpec.DESCRIPTOR.fields_by_name
    # The first is deeper than a worker could read it, the next deeper than the wire lets through.
    for levels in (48, 49, 100, 20_000):
        entry = field(1, field(1, b"k") + field(2, deep_list(levels)))
        annotations = field(job["annotations"].number, entry) + field(job["custom"].number, field(1, b"echo"))
        params = field(job["custom"].number, field(1, b"echo") + field(custom["params"].number, entry))
        for body in (annotations, params):
            await refused(at, field(1, body))


async def test_line_20_ids_and_times_beyond_63_bits_are_refused(at: Stage) -> None:
    for text in (show("job", LARGEST_ID + 1), "job_" + "z" * 13, "job_8000000000000"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=text), metadata=at.bearer())
        assert "job_id" in violations_of(status_of(caught.value))
    for path in find(FieldDescriptor.TYPE_INT64):
        for number in (LARGEST_ID, -LARGEST_ID - 1):
            given = path[1].name in GIVEN_TIMES
            request = filled(path, number)
            if given:
                await refused(at, request.SerializeToString())
    request = valid()
    request.job.requirements.worker_id = "wkr_" + "z" * 13
    await refused(at, request.SerializeToString())


GIVEN_TIMES = {
    "schedule_time",
    "queue_timeout",
    "execution_timeout",
    "stall_timeout",
    "total_timeout",
    "cancel_grace",
    "ttl",
    "retry_policy",
}
