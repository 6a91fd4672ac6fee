"""Job types for tests: `towpath-worker --handlers support.job_types`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

from towpath_worker import Context, handler


@handler("test.echo")
def echo(ctx: Context, value: Any = None) -> Any:
    """Give back what it got."""
    return value


@handler("test.write")
def write(ctx: Context, path: str, line: str) -> str:
    """Append a line to a file; one write, so that lines of many processes never mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
    return line


@handler("test.gate")
def gate(ctx: Context, path: str) -> str:
    """Say that it runs, then wait until somebody writes into the named pipe, and give back what was written."""
    ctx.progress(10, "waits at the gate", phase="gate")
    return Path(path).read_text(encoding="utf-8")


@handler("test.native")
def native(ctx: Context, seconds: float) -> None:
    """Stay in a C call that knows nothing of being cancelled."""
    ctx.progress(1, "in C", phase="native")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    ctypes.PyDLL(None).usleep(ctypes.c_uint(int(seconds * 1e6)))


@handler("test.fail")
def fail(ctx: Context, words: str) -> None:
    """Fail with these words."""
    raise ValueError(words)


@handler("test.crash")
def crash(ctx: Context) -> None:
    """Die as native code does."""
    os.kill(os.getpid(), signal.SIGSEGV)


@handler("test.shout")
def shout(ctx: Context, lines: int) -> int:
    """Write so many lines to standard output."""
    for number in range(lines):
        print(f"line {number}")
    return lines


@handler("test.surroundings")
def surroundings(ctx: Context) -> dict[str, str]:
    """What a job finds in its own process: its environment, its command line, and what it was told."""
    found = {f"environment {name}": value for name, value in os.environ.items()}
    import resource

    cores = resource.getrlimit(resource.RLIMIT_CORE)[0]
    return found | {"bytes of a core": str(cores), "command line": " ".join(sys.orig_argv), "context": repr(ctx)}
