"""Every error has its code, and what goes with it stays small."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2

from support.rpc_stage import info_of, violations_of
from towpath_server.core import errors
from towpath_server.core.errors import InvalidArgument, TowpathError, Violation
from towpath_server.rpc import status as rpc_status
from towpath_server.rpc.status import CODES, MAX_DETAILS_BYTES, MAX_MESSAGE_BYTES, to_status


def kinds(base: type[TowpathError] = TowpathError) -> Iterator[type[TowpathError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_error_has_a_code_and_a_reason_of_its_own() -> None:
    assert set(kinds()) == set(CODES)
    assert len({kind.reason for kind in CODES}) == len(CODES)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.JobNotFound(job_id="job_1"), grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"),
        (errors.Unauthenticated(), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
        (errors.PermissionDenied(method="X"), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
        (errors.RequestIdReused(request_id="r"), grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
        (errors.DedupeConflict(job_id="job_1", dedupe_key="k"), grpc.StatusCode.ALREADY_EXISTS, "DEDUPE_CONFLICT"),
        (errors.Conflict(what="X"), grpc.StatusCode.ABORTED, "STALE_ETAG"),
        (errors.SessionUnknown(), grpc.StatusCode.FAILED_PRECONDITION, "SESSION_UNKNOWN"),
        (errors.StoreFull(), grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL"),
        (errors.Draining(), grpc.StatusCode.UNAVAILABLE, "DRAINING"),
    ],
)
def test_the_contract_s_codes(error: TowpathError, code: grpc.StatusCode, reason: str) -> None:
    status = to_status(error)
    assert status.code == code.value[0]
    assert status.message == str(error)
    info = info_of(status)
    assert (info.reason, info.domain) == (reason, "towpath")
    assert dict(info.metadata) == dict(error.facts)


@pytest.mark.parametrize("error", [errors.Draining(), errors.TooBusy(what="polls"), errors.StoreUnavailable()])
def test_what_passes_says_when_to_try_again(error: TowpathError) -> None:
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in to_status(error).details)
    assert retry.retry_delay.seconds > 0


@pytest.mark.parametrize("count", [1, 3, 10, 1000])
@pytest.mark.parametrize("length", [1, 50, 5000])
def test_details_have_at_most_a_kibibyte_and_say_what_was_left_out(count: int, length: int) -> None:
    many = InvalidArgument(tuple(Violation(f"field{index}.é" * 9, "é" * length) for index in range(count)))
    status = to_status(many)
    assert sum(detail.ByteSize() for detail in status.details) <= MAX_DETAILS_BYTES
    assert len(status.message.encode()) <= MAX_MESSAGE_BYTES
    told = violations_of(status)
    if len(told) < count:
        assert f"and {count - len(told) + 1} more" in told[""]
        assert "more" in status.message


def test_facts_of_any_length_are_cut() -> None:
    status = to_status(errors.ModelNotFound(model="é" * 10_000))
    assert sum(detail.ByteSize() for detail in status.details) <= MAX_DETAILS_BYTES
    assert len(status.message.encode()) <= MAX_MESSAGE_BYTES


def test_of_ten_thousand_violations_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of 20 KB can have so many; to look at all of them, over and over, kept everybody waiting."""
    looked = 0

    def counted(text: str, most: int) -> str:
        nonlocal looked
        looked += 1
        return clip(text, most)

    clip = rpc_status._clip
    monkeypatch.setattr(rpc_status, "_clip", counted)
    many = InvalidArgument(tuple(Violation(f"models[{number}].model_id", "must be an id") for number in range(10_000)))
    assert "more" in to_status(many).message
    assert 0 < looked < 200
