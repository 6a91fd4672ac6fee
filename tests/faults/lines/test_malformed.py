"""Line 21 of the catalogue: what is not a message of the RPC, or is nested without end, gets one fixed text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from support.fuzzing import wire
from support.fuzzing.messages import Request, Words, methods
from support.fuzzing.siege import Siege
from support.rpc_stage import Stage, raw_stream, stage
from towpath.v1 import worker_service_pb2
from towpath_server.core.records import Role
from towpath_server.rpc.roles import OPEN, ROLES

TEXT = "The message is not a well-formed request of {}."
MANY = 20_000
# None of these is a message of any kind.
BROKEN = {
    "no tag": b"\xff\xff\xff\xff",
    "an unknown wire type": b"\x0f\x00",
    "a length without bytes": b"\xfa\x7f\xff\xff\xff\xff\x07",
    "a length that is negative": b"\xfa\x7f" + b"\xff" * 9 + b"\x01",
    "a number without an end": b"\xf8\x7f" + b"\xff" * 11,
    "a group that is not closed": wire.tag(2_000, wire.GROUP),
    "a group closed by another": wire.tag(2_000, wire.GROUP) + wire.tag(2_001, wire.END_GROUP),
    "a group that was never opened": wire.tag(2_000, wire.END_GROUP),
    "groups in groups": wire.groups(MANY, 2_000),
    "groups in groups that stay open": wire.groups(MANY, 2_000, closed=False),
}


def deep(method: MethodDescriptor) -> list[bytes]:
    """Known fields of the request, with something in them that is nested without end."""
    inner = [field for field in method.input_type.fields if field.type == FieldDescriptor.TYPE_MESSAGE]
    return [wire.block(field.number, wire.groups(MANY, 2_000)) for field in inner]


def not_text(method: MethodDescriptor) -> list[bytes]:
    """Known texts of the request that are no Unicode."""
    texts = [field for field in method.input_type.fields if field.type == FieldDescriptor.TYPE_STRING]
    return [wire.block(field.number, bad) for field in texts for bad in wire.NOT_UTF8]


async def refused(at: Stage, method: MethodDescriptor, raw: bytes) -> tuple[grpc.StatusCode, str]:
    siege = Siege(at.channel, at.bearer(), Words())
    code, text = await siege.send(Request(method, (raw,)))
    return code, text.partition("\n")[0]


@pytest.fixture(name="stage")
async def _stage() -> AsyncIterator[Stage]:
    async with stage() as one:
        yield one


async def test_line_21_what_is_malformed_or_nested_without_end_gets_one_fixed_text(stage: Stage) -> None:
    seen = 0
    for method in methods():
        path = f"/{method.containing_service.full_name}/{method.name}"
        if Role.ADMIN not in ROLES.get(path, ()) and path not in OPEN:
            continue
        wanted = (grpc.StatusCode.INVALID_ARGUMENT, TEXT.format(method.name))
        for raw in (*BROKEN.values(), *deep(method), *not_text(method)):
            assert await refused(stage, method, raw) == wanted, f"{path}: {raw[:100]!r}"
            seen += 1
    assert seen > 40 * len(BROKEN)
    assert await stage.create()


async def test_line_21_also_in_the_midst_of_a_stream_that_keeps_what_came_before(stage: Stage) -> None:
    job = await stage.create()
    session = await stage.register()
    [lease] = await stage.lease(session)
    call: Any = raw_stream(stage.channel, "/towpath.v1.WorkerService/ReportJobs")(metadata=stage.bearer())
    first = worker_service_pb2.ReportJobsRequest(worker_id=session.worker_id, session_id=session.session_id)
    first.reports.add(sequence=1, job_id=job.job_id, lease_token=lease.lease_token).started.SetInParent()
    await call.write(first.SerializeToString())
    answer = worker_service_pb2.ReportJobsResponse.FromString(await call.read())
    assert answer.acked_sequence == 1
    await call.write(wire.groups(MANY, 2_000))
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await call.details() == TEXT.format("ReportJobs")
