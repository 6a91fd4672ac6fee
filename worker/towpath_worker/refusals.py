"""What a failed call to the scheduler means for a worker."""

from __future__ import annotations

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DETAILS = "grpc-status-details-bin"
# Trying again as it is cannot help: at the start the worker gives up.
FINAL_CODES = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class Refused(Exception):
    """The scheduler does not take this worker. The message says what to do."""


def is_final(error: grpc.aio.AioRpcError) -> bool:
    """Whether trying again as it is cannot help."""
    return error.code() in FINAL_CODES


def is_denied(error: grpc.aio.AioRpcError) -> bool:
    """Whether the scheduler does not take this worker's token."""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED


class Denials:
    """How often in a row the scheduler at this address has not taken the token.

    Once is no proof: a call that went on may have ended with the token's secret of before, which another one follows.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._denied = False

    def note(self, error: grpc.aio.AioRpcError) -> None:
        """A call has failed. Raises Refused at the second time."""
        denied = is_denied(error)
        if denied and self._denied:
            raise Refused(explain(error, self._address)) from None
        self._denied = denied

    def clear(self) -> None:
        """One has not."""
        self._denied = False


def session_is_over(error: grpc.aio.AioRpcError) -> bool:
    """Whether the worker must register again."""
    return error.code() is grpc.StatusCode.FAILED_PRECONDITION and reason(error) in ("SESSION_UNKNOWN", "")


def reason(error: grpc.aio.AioRpcError) -> str:
    """The reason that the scheduler gave, such as SESSION_UNKNOWN; empty where it gave none."""
    info = error_details_pb2.ErrorInfo()
    for detail in _status(error).details:
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def retry_after(error: grpc.aio.AioRpcError) -> float:
    """How many seconds the scheduler asked to wait."""
    hint = error_details_pb2.RetryInfo()
    for detail in _status(error).details:
        if detail.Unpack(hint):
            return max(0.0, min(60.0, float(hint.retry_delay.ToTimedelta().total_seconds())))
    return 0.0


def explain(error: grpc.aio.AioRpcError, address: str) -> str:
    """What to tell the worker's owner."""
    said = error.details() or error.code().name
    match error.code():
        case grpc.StatusCode.UNAUTHENTICATED:
            return (
                f"The scheduler at {address} does not take this token: it was revoked, has ended, or never was one. "
                "Ask for an invitation (`towpath workers invite`) and join again: `towpath-worker join HOST:PORT`. "
                f"It said: {said}"
            )
        case grpc.StatusCode.PERMISSION_DENIED if reason(error) == "FORBIDDEN":
            # It runs jobs, but not as it asked to.
            return f"The scheduler at {address} refused: {said}"
        case grpc.StatusCode.PERMISSION_DENIED:
            return f"This token may not run jobs at {address}: it needs the role worker or admin. It said: {said}"
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"{address} is not a Towpath scheduler, or one of another version. It said: {said}"
        case _:
            return f"The scheduler at {address} refused: {said}"


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()
