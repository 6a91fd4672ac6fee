"""Errors on the wire: the one table of gRPC codes, and the details that go with them."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Iterable, Mapping
from typing import NoReturn

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from towpath_server.core import errors
from towpath_server.core.errors import InvalidArgument, TowpathError, Violation
from towpath_server.log import Logger
from towpath_server.rpc.context import ServicerContext

DOMAIN = "towpath"
DETAILS_KEY = "grpc-status-details-bin"
# grpc replaces a status whose headers outgrow 8 KiB; text can grow threefold on its way, and it goes twice.
MAX_MESSAGE_BYTES = 512
MAX_DETAILS_BYTES = 1024
MAX_VALUE_BYTES = 100
MAX_DESCRIPTION_BYTES = 200

_log = Logger("towpath.rpc")


class MalformedRequest(TowpathError):
    """The message is not a well-formed request of {method}."""

    reason = "MALFORMED_REQUEST"


class Internal(TowpathError):
    """The scheduler made a mistake. Its log has the trace under {correlation_id}."""

    reason = "INTERNAL"


_C = grpc.StatusCode

CODES: Mapping[type[TowpathError], grpc.StatusCode] = {
    errors.JobNotFound: _C.NOT_FOUND,
    errors.WorkerNotFound: _C.NOT_FOUND,
    errors.QueueNotFound: _C.NOT_FOUND,
    errors.ModelNotFound: _C.NOT_FOUND,
    errors.TokenNotFound: _C.NOT_FOUND,
    errors.IllegalTransition: _C.FAILED_PRECONDITION,
    errors.LeaseSuperseded: _C.FAILED_PRECONDITION,
    errors.NotFinal: _C.FAILED_PRECONDITION,
    errors.SessionUnknown: _C.FAILED_PRECONDITION,
    errors.Conflict: _C.ABORTED,
    errors.RequestIdReused: _C.ALREADY_EXISTS,
    errors.DedupeConflict: _C.ALREADY_EXISTS,
    errors.Unauthenticated: _C.UNAUTHENTICATED,
    errors.PermissionDenied: _C.PERMISSION_DENIED,
    errors.InvalidArgument: _C.INVALID_ARGUMENT,
    MalformedRequest: _C.INVALID_ARGUMENT,
    errors.Draining: _C.UNAVAILABLE,
    errors.StoreUnavailable: _C.UNAVAILABLE,
    # The watcher does what it does after a break: it goes on from the last sequence.
    errors.SlowConsumer: _C.UNAVAILABLE,
    errors.StoreFull: _C.RESOURCE_EXHAUSTED,
    errors.TooBusy: _C.RESOURCE_EXHAUSTED,
    Internal: _C.INTERNAL,
}

# Seconds after which it makes sense to try again.
RETRY_AFTER: Mapping[grpc.StatusCode, int] = {_C.UNAVAILABLE: 1, _C.RESOURCE_EXHAUSTED: 2}


async def abort(context: ServicerContext, error: TowpathError) -> NoReturn:
    """End the call with this error."""
    status = to_status(error)
    await context.abort(
        _CODES_BY_NUMBER[status.code], status.message, ((DETAILS_KEY, status.SerializeToString(deterministic=True)),)
    )


async def abort_unexpected(context: ServicerContext, method: str) -> NoReturn:
    """End the call whose exception is being handled: the client gets a number, the log the trace."""
    correlation_id = secrets.token_hex(8)
    # As text: a renderer that shows local variables would show tokens.
    _log.error("rpc_failed", method=method, correlation_id=correlation_id, exception=traceback.format_exc())
    await abort(context, Internal(correlation_id=correlation_id))


def to_status(error: TowpathError) -> status_pb2.Status:
    """The google.rpc.Status of an error; its details have at most 1 KiB."""
    code = CODES[type(error)]
    violations = error.violations if isinstance(error, InvalidArgument) else ()
    status = status_pb2.Status(code=code.value[0], message=_message(error, violations))
    # The facts of an InvalidArgument are its violations over again.
    facts = {} if violations else {name: _clip(value, MAX_VALUE_BYTES) for name, value in error.facts.items()}
    _add(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts))
    if code in RETRY_AFTER:
        _add(status, error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=RETRY_AFTER[code])))
    if violations:
        _add(status, _bad_request(violations, MAX_DETAILS_BYTES - _details_bytes(status)))
    return status


_CODES_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def _message(error: TowpathError, violations: Iterable[Violation]) -> str:
    sentences = [f"{one.field}: {one.description}" if one.field else one.description for one in violations]
    if not sentences:
        return _clip(str(error), MAX_MESSAGE_BYTES)
    kept = [_clip(sentence, MAX_DESCRIPTION_BYTES) for sentence in sentences]
    while len("; ".join(kept).encode()) > MAX_MESSAGE_BYTES - 20:
        kept.pop()
    more = len(sentences) - len(kept)
    return "; ".join([*kept, f"and {more} more"] if more else kept)


def _bad_request(violations: tuple[Violation, ...], most: int) -> error_details_pb2.BadRequest:
    whole = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=_clip(one.field, MAX_VALUE_BYTES), description=_clip(one.description, MAX_DESCRIPTION_BYTES)
            )
            for one in violations
        ]
    )
    # Any's type name and the last line take some bytes.
    if whole.ByteSize() + 80 <= most:
        return whole
    fitting = error_details_pb2.BadRequest()
    for index, one in enumerate(whole.field_violations):
        if fitting.ByteSize() + one.ByteSize() + 110 > most:
            fitting.field_violations.add(description=f"and {len(violations) - index} more")
            break
        fitting.field_violations.append(one)
    return fitting


def _add(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def _details_bytes(status: status_pb2.Status) -> int:
    return sum(detail.ByteSize() for detail in status.details)


def _clip(text: str, most: int) -> str:
    raw = text.encode()
    return text if len(raw) <= most else raw[: most - 3].decode(errors="ignore") + "…"
