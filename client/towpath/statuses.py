"""From gRPC's errors to this package's: one table of codes, one list of hints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from towpath import settings
from towpath.errors import (
    BY_CODE,
    BY_REASON,
    InternalError,
    InvalidArgument,
    ResourceExhausted,
    TowpathError,
    Unavailable,
    Violation,
)

DETAILS = "grpc-status-details-bin"
# The reason of an error in which no scheduler had a part.
UNREACHABLE = "UNREACHABLE"
# It stops, or has nowhere to write: another replica may take the call.
DRAINING = "DRAINING"
STORE_UNAVAILABLE = "STORE_UNAVAILABLE"


def translate(error: grpc.RpcError, address: str) -> TowpathError:
    """The exception for a failed call to the scheduler at `address`; several are `spoken`."""
    call: Any = error
    code: grpc.StatusCode = call.code() or grpc.StatusCode.UNKNOWN
    text = call.details() or ""
    status = _status(call.trailing_metadata())
    if status is None:
        return _without_details(code, text, address)
    return _with_details(code, status.message or text, status.details)


def reason(error: Any) -> str:
    """The scheduler's word for why a call failed; empty where it was not a scheduler that spoke."""
    status = _status(error.trailing_metadata())
    info = error_details_pb2.ErrorInfo()
    for packed in status.details if status is not None else ():
        if packed.Unpack(info):
            return str(info.reason)
    return ""


def _status(metadata: Iterable[tuple[str, str | bytes]] | None) -> status_pb2.Status | None:
    for key, value in metadata or ():
        if key == DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _with_details(code: grpc.StatusCode, message: str, details: Iterable[Packed]) -> TowpathError:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for packed in details:
        for kind in (info, bad, retry):
            if packed.Is(kind.DESCRIPTOR):
                packed.Unpack(kind)
    made = BY_REASON.get(info.reason) or BY_CODE.get(code.name, InternalError)
    failure: TowpathError
    if issubclass(made, InvalidArgument):
        violations = tuple(Violation(one.field, one.description) for one in bad.field_violations)
        failure = made(message, reason=info.reason, metadata=info.metadata, violations=violations)
    else:
        failure = made(message, reason=info.reason, metadata=info.metadata)
    if retry.HasField("retry_delay"):
        failure.retry_after = retry.retry_delay.ToMicroseconds() / 1e6
    return failure


def _without_details(code: grpc.StatusCode, text: str, address: str) -> TowpathError:
    """What gRPC itself, not a scheduler, had to say."""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(_unreachable(text, address), reason=UNREACHABLE)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in text:
            return ResourceExhausted(
                "The message is larger than the 4 MiB that travel. Put the data into a file under a data folder of the "
                "worker, and give its path instead."
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            message = f"The scheduler at {address} does not know this call. Is it an older Towpath, or something else?"
            return BY_CODE[code.name](message)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return BY_CODE[code.name](f"The scheduler at {address} did not answer in time. Give a longer timeout.")
        case grpc.StatusCode.CANCELLED:
            return BY_CODE[code.name]("The call was cancelled; was its client closed?")
        case _:
            return BY_CODE.get(code.name, InternalError)(text or f"The scheduler answered {code.name}.")


def _unreachable(text: str, address: str) -> str:
    lowered = text.lower()
    if any(hint in lowered for hint in ("ssl", "tls", "certificate", "handshake")):
        return (
            f"No secure connection to {address}: {text}. Give the certificate that signed the scheduler's as tls_ca, "
            "or insecure=True for plain text in a network that you trust."
        )
    advice = f"No scheduler answers at {address}. Start one with `towpath-server`, or check TOWPATH_ADDRESS."
    if settings.OR in address:
        return f"{advice} The last one: {text}"
    if "dns resolution" in lowered or "name resolution" in lowered:
        return f"There is no host of that name: {address}. Check TOWPATH_ADDRESS."
    return advice
