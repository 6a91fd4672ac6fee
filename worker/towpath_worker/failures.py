"""What a person is told of an exception that ended a job."""

from __future__ import annotations

import traceback
from pathlib import Path

from towpath.v1 import job_pb2
from towpath_worker import results
from towpath_worker.errors import InvalidInput

MAX_MESSAGE = 4_000
MAX_TRACEBACK = 16_000
# Nobody who wrote a handler wants to read on the way there.
OWN_FILES = frozenset(str(Path(__file__).with_name(name)) for name in ("child.py", "inline.py", "registry.py"))


def failure(error: BaseException) -> job_pb2.Failure:
    """An exception as it travels. A class with `retryable = False` is not tried again."""
    invalid = isinstance(error, InvalidInput)
    described = traceback.TracebackException.from_exception(error)
    described.stack = traceback.StackSummary.from_list(
        [one for one in described.stack if one.filename not in OWN_FILES]
    )
    trace = results.clean("".join(described.format()))
    message = results.clean(_message(error))
    return job_pb2.Failure(
        cause=job_pb2.FAILURE_CAUSE_INVALID_INPUT if invalid else job_pb2.FAILURE_CAUSE_HANDLER,
        type=type(error).__qualname__,
        message=message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + " [...]",
        traceback="" if invalid else trace if len(trace) <= MAX_TRACEBACK else "[...] " + trace[-MAX_TRACEBACK:],
        retryable=not invalid and getattr(error, "retryable", True) is not False,
    )


def unasked_stop() -> job_pb2.Failure:
    """What is told of a handler that raised Cancelled of its own accord."""
    return job_pb2.Failure(
        cause=job_pb2.FAILURE_CAUSE_HANDLER,
        type="Cancelled",
        message="The handler raised Cancelled, but nobody had asked the job to stop.",
        retryable=True,
    )


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"The handler called sys.exit({error.code!r}). Return, or raise an exception."
    try:
        return str(error) or type(error).__qualname__
    except Exception:  # noqa: BLE001
        return type(error).__qualname__
