"""Job types that write down each of their runs: `towpath-worker --handlers support.recorded`."""

from __future__ import annotations

import os
import threading
from uuid import uuid4

from towpath_worker import Context, handler


@handler("recorded.run")
def run(ctx: Context, path: str, body: str, failures: int = 0, seconds: float = 0.0) -> str:
    """Write `JOB ATTEMPT RUN BODY` into a file, fail in the first attempts, work for a while; the name of this run."""
    name = uuid4().hex
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        # One write: lines of many processes never mix.
        os.write(descriptor, f"{ctx.job_id} {ctx.attempt} {name} {body}\n".encode())
    finally:
        os.close(descriptor)
    if ctx.attempt <= failures:
        raise ValueError(f"attempt {ctx.attempt} fails")
    if seconds:
        assert isinstance(ctx._stop, threading.Event), "it runs in a child process"
        ctx._stop.wait(seconds)
        ctx.raise_if_cancelled()
    return name
