"""Handlers that run in the worker's own process, for the tests of the worker."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from towpath_worker import Context, handler

meeting = threading.Barrier(3)


@handler("i.where", inline=True)
def where(ctx: Context, value: Any = None) -> dict[str, Any]:
    """What it got, and where it runs."""
    return {"value": value, "pid": os.getpid(), "main": threading.current_thread() is threading.main_thread()}


@handler("i.async", inline=True)
async def later(ctx: Context, seconds: float = 0.0) -> dict[str, Any]:
    """Sleeps as a coroutine does."""
    ctx.log("sleeping")
    await asyncio.sleep(seconds)
    return {"pid": os.getpid(), "main": threading.current_thread() is threading.main_thread()}


@handler("i.talk", inline=True)
def talk(ctx: Context) -> str:
    """Says something, and leaves a file in its folder."""
    ctx.progress(10, "begun")
    ctx.log("a line")
    (ctx.workdir / "file").touch()
    ctx.progress(100)
    return str(ctx.workdir)


@handler("i.fail", inline=True)
async def fail(ctx: Context) -> None:
    """Raises."""
    raise KeyError("the point")


@handler("i.say", inline=True)
async def say(ctx: Context) -> None:
    """Says something, and ends in the same breath."""
    ctx.log("a line")


@handler("i.tell", inline=True)
def tell(ctx: Context) -> None:
    """The same in a thread."""
    ctx.log("a line")


class Odd(Exception):
    """Cannot be described."""

    @property
    def retryable(self) -> bool:
        """Nobody knows."""
        raise RuntimeError


@handler("i.odd", inline=True)
def odd(ctx: Context) -> None:
    """Raises what breaks whoever looks at it."""
    raise Odd


@handler("i.wait", inline=True)
def wait(ctx: Context, path: Path) -> str:
    """Waits for a file, or for the wish that it stops."""
    ctx.log(f"waiting {os.getpid()}")
    while not path.exists():
        ctx.raise_if_cancelled()
        time.sleep(0.01)
    return "seen"


@handler("i.deaf", inline=True)
def deaf(ctx: Context, path: Path) -> str:
    """Waits for a file, whatever anybody wishes."""
    while not path.exists():
        time.sleep(0.01)
    return "seen"


@handler("i.meet", inline=True)
def meet(ctx: Context) -> int:
    """Waits until three of its kind run at once."""
    return meeting.wait(20)


@handler("i.large", inline=True)
def large(ctx: Context, size: int) -> str:
    """A result of this many characters."""
    return "x" * size


@handler("i.die", inline=True)
def die(ctx: Context) -> None:
    """Ends its process, which is the worker's."""
    os.kill(os.getpid(), signal.SIGKILL)


@handler("i.child")
def child(ctx: Context) -> int:
    """Runs in a child process, beside all those that do not."""
    return os.getpid()
