"""An event loop whose time is virtual: where it would wait, it jumps to the next timer. No thread and no socket.

Several processes may live in it. One that is frozen does nothing, and when it is thawed all that it missed at once.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, TypeVarTuple, Unpack

from towpath_server.core.job import SECOND

Ts = TypeVarTuple("Ts")


class Deadlock(AssertionError):
    """Everybody waits for somebody, and no timer runs: nothing would ever happen again."""


class Process:
    """What may be frozen: all that is called in contexts of its own."""

    def __init__(self) -> None:
        self.frozen = False
        self.missed: list[asyncio.Handle] = []


process: ContextVar[Process | None] = ContextVar("process", default=None)


class _Handle(asyncio.Handle):
    """Waits where its process is frozen."""

    _context: Context

    def _run(self) -> None:
        if (mine := self._context.get(process)) is not None and mine.frozen:
            mine.missed.append(self)
        else:
            super()._run()


class _Timer(asyncio.TimerHandle):
    """The same at its time."""

    _context: Context
    _scheduled: bool

    def _run(self) -> None:
        if (mine := self._context.get(process)) is not None and mine.frozen:
            mine.missed.append(self)
        else:
            super()._run()


class VirtualLoop(asyncio.BaseEventLoop):
    """Deterministic: what runs next depends on nothing but on what ran before."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[_Timer]

    def __init__(self) -> None:
        super().__init__()
        self.microseconds = 0
        # Called whenever all that could run has run, before time goes on.
        self.on_idle: Callable[[], None] = lambda: None
        self._selector = _Jump(self)
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.microseconds / SECOND

    def thaw(self, frozen: Process) -> None:
        """Let a process go on."""
        frozen.frozen = False
        missed, frozen.missed = frozen.missed, []
        self._ready.extend(missed)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See `AbstractEventLoop`."""
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def _call_soon(self, callback: Callable[..., object], args: Any, context: Context | None) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none: nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is one thread."""


class _Jump:
    """Stands where a selector would: waiting takes no time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        """Let the time pass at once."""
        if timeout is None:
            raise Deadlock("nothing runs, and no timer is set")
        if timeout > 0:
            self._loop.on_idle()
            self._loop.microseconds += max(1, math.ceil(timeout * SECOND - 0.01))
        return []

    def close(self) -> None:
        """Nothing is open."""
