"""Handlers that behave and misbehave, for the tests of the worker."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from towpath_worker import Context, handler


@handler("t.add")
def add(ctx: Context, x: int, y: int = 1) -> dict[str, Any]:
    """The sum, and whose process it was made in."""
    return {"sum": x + y, "exact": isinstance(x, int), "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}


@handler("t.talk")
def talk(ctx: Context) -> None:
    """Says something on every way."""
    ctx.progress(10, "begun", phase="fit", metrics={"loss": 0.5})
    print("hä?")
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'from a child')"], check=True)
    ctx.log("a line")
    for percent in range(11, 101):
        ctx.progress(percent)
    sys.stdout.write("no end of line")


@handler("t.fail")
def fail(ctx: Context) -> None:
    """Raises."""
    raise KeyError("the point")


@handler("t.crash")
def crash(ctx: Context) -> None:
    """Dies in native code."""
    ctypes.string_at(0)


@handler("t.exit")
def leave(ctx: Context) -> None:
    """Ends its process."""
    os._exit(7)


@handler("t.deaf")
def deaf(ctx: Context) -> None:
    """Starts a process that detaches itself, then holds the interpreter's lock in C for a minute."""
    detached = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    print(f"pids {os.getpid()} {detached.pid}", flush=True)
    time.sleep(0.05)
    ctypes.PyDLL(None).sleep(60)


@handler("t.wait")
def wait(ctx: Context, path: Path) -> str:
    """Waits for a file, or for the wish that it stops."""
    print(f"waiting {os.getpid()}", flush=True)
    while not path.exists():
        ctx.raise_if_cancelled()
        time.sleep(0.01)
    return "seen"


@handler("t.async")
async def later(ctx: Context, seconds: float = 0.0) -> list[float]:
    """Sleeps as a coroutine does."""
    print("sleeping", flush=True)
    await asyncio.sleep(seconds)
    return [seconds]


@handler("t.large")
def large(ctx: Context, size: int) -> str:
    """A result of this many characters."""
    return "x" * size


@handler("t.flood")
def flood(ctx: Context, size: int) -> int:
    """Writes this many bytes."""
    for _ in range(size // 1000):
        sys.stdout.write("y" * 999 + "\n")
    return size


@handler("t.leftover")
def leftover(ctx: Context) -> int:
    """Leaves a process behind."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid
