"""An event loop whose time is virtual: where it would wait, it jumps to the next timer. No thread and no socket."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from towpath_server.core.job import SECOND


class Deadlock(AssertionError):
    """Everybody waits for somebody, and no timer runs: nothing would ever happen again."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Deterministic: what runs next depends on nothing but on what ran before."""

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
