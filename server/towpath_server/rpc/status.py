"""Errors on the wire: the one table of gRPC codes, and the details that go with them."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
    errors.QuotaNotFound: _C.NOT_FOUND,
    errors.IllegalTransition: _C.FAILED_PRECONDITION,
    errors.LeaseSuperseded: _C.FAILED_PRECONDITION,
    errors.NotFinal: _C.FAILED_PRECONDITION,
    errors.LastAdmin: _C.FAILED_PRECONDITION,
    errors.SessionUnknown: _C.FAILED_PRECONDITION,
    errors.Conflict: _C.ABORTED,
    errors.RequestIdReused: _C.ALREADY_EXISTS,
    errors.DedupeConflict: _C.ALREADY_EXISTS,
    errors.Unauthenticated: _C.UNAUTHENTICATED,
    errors.PermissionDenied: _C.PERMISSION_DENIED,
    errors.Forbidden: _C.PERMISSION_DENIED,
    errors.InvalidArgument: _C.INVALID_ARGUMENT,
    MalformedRequest: _C.INVALID_ARGUMENT,
    errors.Draining: _C.UNAVAILABLE,
    errors.StoreUnavailable: _C.UNAVAILABLE,
    # The watcher does what it does after a break: it goes on from the last sequence.
    errors.SlowConsumer: _C.UNAVAILABLE,
    errors.StoreFull: _C.RESOURCE_EXHAUSTED,
    errors.TooBusy: _C.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: _C.RESOURCE_EXHAUSTED,
    errors.RateExceeded: _C.RESOURCE_EXHAUSTED,
    Internal: _C.INTERNAL,
}

# Seconds after which it makes sense to try again.
RETRY_AFTER: Mapping[grpc.StatusCode, int] = {_C.UNAVAILABLE: 1, _C.RESOURCE_EXHAUSTED: 2}


async def abort(context: ServicerContext, error: TowpathError, method: str = "") -> NoReturn:
    """End the call with this error."""
    try:
        status = to_status(error)
    except Exception:  # noqa: BLE001 - grpc would show its text
        status = to_status(_noted(method))
    await context.abort(
        _CODES_BY_NUMBER[status.code], status.message, ((DETAILS_KEY, status.SerializeToString(deterministic=True)),)
    )


async def abort_unexpected(context: ServicerContext, method: str) -> NoReturn:
    """End the call whose exception is being handled: the client gets a number, the log the trace."""
    await abort(context, _noted(method), method)


def _noted(method: str) -> Internal:
    """What to say of the exception that is being handled, once it is in the log."""
    correlation_id = secrets.token_hex(8)
    # A log that cannot be written must not be what the client is told of.
    with suppress(Exception):
        # As text: a renderer that shows local variables would show tokens.
        _log.error("rpc_failed", method=method, correlation_id=correlation_id, exception=traceback.format_exc())
    return Internal(correlation_id=correlation_id)


def to_status(error: TowpathError) -> status_pb2.Status:
    """The google.rpc.Status of an error; its details have at most 1 KiB."""
    code = CODES[type(error)]
    violations = error.violations if isinstance(error, InvalidArgument) else ()
    status = status_pb2.Status(code=code.value[0], message=_message(error, violations))
    # The facts of an InvalidArgument are its violations over again.
    facts = {} if violations else {name: _clip(value, MAX_VALUE_BYTES) for name, value in error.facts.items()}
    _add(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts))
    if code in RETRY_AFTER:
        _add(status, error_details_pb2.RetryInfo(retry_delay=_delay(error, RETRY_AFTER[code])))
    if violations:
        _add(status, _bad_request(violations, MAX_DETAILS_BYTES - _details_bytes(status)))
    return status


_CODES_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def _message(error: TowpathError, violations: Sequence[Violation]) -> str:
    if not violations:
        return _clip(str(error), MAX_MESSAGE_BYTES)
    kept: list[str] = []
    left = MAX_MESSAGE_BYTES - 20
    for one in violations:
        # A field may be named by a key that a client made up.
        field = _clip(one.field, MAX_VALUE_BYTES)
        sentence = _clip(f"{field}: {one.description}" if field else one.description, MAX_DESCRIPTION_BYTES)
        left -= len(sentence.encode()) + (2 if kept else 0)
        if left < 0:
            break
        kept.append(sentence)
    more = len(violations) - len(kept)
    return "; ".join([*kept, f"and {more} more"] if more else kept)


def _delay(error: TowpathError, usual: int) -> duration_pb2.Duration:
    delay = duration_pb2.Duration(seconds=usual)
    if error.retry_after is not None:
        delay.FromMicroseconds(error.retry_after)
    return delay


def _bad_request(violations: Sequence[Violation], most: int) -> error_details_pb2.BadRequest:
    # Any's type name and the last line take some bytes. There may be ten thousand violations, and few are told.
    fitting, last = error_details_pb2.BadRequest(), 0
    for index, one in enumerate(violations):
        fitting.field_violations.add(
            field=_clip(one.field, MAX_VALUE_BYTES), description=_clip(one.description, MAX_DESCRIPTION_BYTES)
        )
        size = fitting.ByteSize()
        if size + 80 > most:
            break
        if size + 110 <= most:
            last = index + 1
    else:
        return fitting
    del fitting.field_violations[last:]
    fitting.field_violations.add(description=f"and {len(violations) - last} more")
    return fitting


def _add(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def _details_bytes(status: status_pb2.Status) -> int:
    return sum(detail.ByteSize() for detail in status.details)


def _clip(text: str, most: int) -> str:
    raw = text.encode()
    return text if len(raw) <= most else raw[: most - 3].decode(errors="ignore") + "…"
