"""The exit codes, and which failure gets which. They are stable: scripts may rely on them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    JOB_FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    AUTH = 4
    UNAVAILABLE = 5
    REFUSED = 6
    LOCAL = 7
    INTERRUPTED = 130


MEANINGS: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.OK: "done",
        ExitCode.JOB_FAILED: "the job failed, was cancelled or timed out",
        ExitCode.USAGE: "the command line or a setting is wrong",
        ExitCode.NOT_FOUND: "no such job, worker, queue, model or token",
        ExitCode.AUTH: "no valid token, or it may not do this",
        ExitCode.UNAVAILABLE: "no scheduler there, or it cannot answer now",
        ExitCode.REFUSED: "the scheduler refused the request",
        ExitCode.LOCAL: "something failed on this side, or took too long",
        ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
    }
)

# By the name of the gRPC code, so that this table needs no grpc.
BY_STATUS: Mapping[str, ExitCode] = MappingProxyType(
    {
        "NOT_FOUND": ExitCode.NOT_FOUND,
        "UNAUTHENTICATED": ExitCode.AUTH,
        "PERMISSION_DENIED": ExitCode.AUTH,
        "UNAVAILABLE": ExitCode.UNAVAILABLE,
        "RESOURCE_EXHAUSTED": ExitCode.UNAVAILABLE,
        "INVALID_ARGUMENT": ExitCode.REFUSED,
        "OUT_OF_RANGE": ExitCode.REFUSED,
        "FAILED_PRECONDITION": ExitCode.REFUSED,
        "ALREADY_EXISTS": ExitCode.REFUSED,
        "ABORTED": ExitCode.REFUSED,
        "UNIMPLEMENTED": ExitCode.REFUSED,
        "DEADLINE_EXCEEDED": ExitCode.LOCAL,
        "CANCELLED": ExitCode.LOCAL,
        "INTERNAL": ExitCode.LOCAL,
        "UNKNOWN": ExitCode.LOCAL,
        "DATA_LOSS": ExitCode.LOCAL,
    }
)


def epilog() -> str:
    """The table for `towpath --help`."""
    return "\n".join(["\b", "Exit codes:", *(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())])
