"""From an exception to a line on standard error, which says what to do, and an exit code."""

from __future__ import annotations

import os

from towpath import errors, job_errors
from towpath.cli.exit_codes import BY_STATUS, ExitCode
from towpath.cli.output import note

DEBUG = "TOWPATH_DEBUG"


def report(error: Exception) -> ExitCode:
    """Tells a person what went wrong and returns the exit code. TOWPATH_DEBUG=1 shows the traceback."""
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    code = exit_code(error)
    note(f"towpath: {describe(error)}")
    if isinstance(error, errors.InvalidArgument) and error.violations:
        for violation in error.violations:
            note(f"  {violation.field}: {violation.description}")
    elif hint := _hint(error, code):
        note(f"  {hint}")
    return code


def exit_code(error: Exception) -> ExitCode:
    """The exit code of a failure."""
    match error:
        case errors.WaitTimeout():
            return ExitCode.LOCAL
        case job_errors.JobError():
            return ExitCode.JOB_FAILED
        case errors.InvalidArgument() if not error.reason:
            # The client's own refusal: nothing was sent.
            return ExitCode.USAGE
        case errors.TowpathError() if error.code:
            return BY_STATUS.get(error.code, ExitCode.LOCAL)
        case ValueError():
            return ExitCode.USAGE
        case _:
            return ExitCode.LOCAL


def is_general(error: Exception) -> bool:
    """Whether the next call would fail alike: nobody is there, or nobody may."""
    return exit_code(error) in (ExitCode.AUTH, ExitCode.UNAVAILABLE, ExitCode.LOCAL)


def describe(error: Exception) -> str:
    """The failure in a line."""
    match error:
        case errors.InvalidArgument() if error.violations:
            return f"{_plural(len(error.violations), 'field')} of the request cannot be taken:"
        case errors.TowpathError():
            return error.message
        case OSError() if error.strerror:
            return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        case ValueError() | ImportError():
            return str(error)
        case _:
            return f"{type(error).__name__}: {error}. This is a bug; {DEBUG}=1 shows where."


def _hint(error: Exception, code: ExitCode) -> str:
    match code:
        case ExitCode.UNAVAILABLE if isinstance(error, errors.Unavailable):
            from towpath.statuses import UNREACHABLE

            return (
                "--server HOST:PORT names another one. `towpath doctor` says what is wrong."
                if error.reason == UNREACHABLE
                else ""
            )
        case ExitCode.AUTH if isinstance(error, errors.Unauthenticated):
            return "Give a token with --token-file FILE or TOWPATH_TOKEN. An admin makes one: towpath tokens create"
        case _:
            return ""


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
