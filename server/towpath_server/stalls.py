"""Stalls of the event loop, each with the culprit: a thread asks it for a sign, and looks at what it does instead.

While little happens the thread asks twice a second, else forty times. A stall that falls between two questions is
missed: what comes once may be, what comes again is not.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from towpath_server.log import Logger

log = Logger("towpath.stalls")

# Seconds: what is a stall, how often to ask while there is work and while there is none, and between two lines in the
# log.
STALL = 0.050
BUSY_PERIOD, IDLE_PERIOD = 0.025, 0.500
QUIET = 10.0
# Of one CPU: above it there is work; below it, while the watch too stood still, the process did not run.
BUSY, HARDLY_RAN = 0.1, 0.3
# Seconds: a watch that comes so late itself did not run either.
LATE = 0.020
# How many frames are shown at most, and how many of them whoever's they are.
FRAMES, INNERMOST = 8, 3
OURS = frozenset({"towpath_server", "towpath_worker", "towpath"})
# What calls the callbacks.
LOOPS = frozenset({"asyncio.base_events", "asyncio.events", "asyncio.runners", "uvloop"})


class Cause(Enum):
    """Why the loop gave no sign."""

    CALLBACK = "a callback"
    INTERPRETER = "something that kept the whole interpreter: the garbage collector, or an extension"
    STANDSTILL = "the process did not run: it was stopped, or the machine had no time for it"


@dataclass(frozen=True, slots=True)
class Stall:
    """The loop stood still for so many seconds, in which the process used so many of CPU time."""

    seconds: float
    cpu_seconds: float
    cause: Cause
    frames: tuple[str, ...] = ()
    serving: str | None = None


def cause(waited: float, asked_for: float, cpu: float) -> Cause:
    """Why, by how long the watch's own wait took (`asked_for` seconds were asked for) and the CPU time used in it."""
    if waited - asked_for < LATE:
        # The loop could have run, too.
        return Cause.CALLBACK
    return Cause.STANDSTILL if cpu < HARDLY_RAN * waited else Cause.INTERPRETER


def innermost(thread: int) -> tuple[str, ...]:
    """Where a loop's thread is: its innermost frames, then those of ours; none between two callbacks."""
    frame = sys._current_frames().get(thread)
    shown: list[str] = []
    while frame is not None and len(shown) < FRAMES:
        module = str(frame.f_globals.get("__name__"))
        if module in LOOPS:
            break
        if len(shown) < INNERMOST or module.partition(".")[0] in OURS:
            shown.append(f"{module}:{frame.f_lineno} {frame.f_code.co_qualname}")
        frame = frame.f_back
    return tuple(shown)


class StallWatch:
    """Watches the event loop that starts it."""

    def __init__(
        self,
        serving: Callable[[asyncio.Task[object] | None], str | None] = lambda task: None,
        *,
        tell: Callable[[Stall], None] | None = None,
        where: Callable[[int], tuple[str, ...]] = innermost,
    ) -> None:
        """`serving` says which RPC a task serves, `tell` gets each stall, `where` shows what a thread does."""
        self._serving = serving
        self._tell = tell or Teller().tell
        self._where = where
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="towpath-stalls", daemon=True)

    def start(self) -> None:
        """Begin; called in the loop."""
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """End. It may be called in the loop."""
        self._over.set()

    def _run(self) -> None:
        period, cpu = IDLE_PERIOD, time.process_time()
        while not self._over.wait(period):
            with suppress(RuntimeError):  # The loop is closed.
                if (stall := self.ask()) is not None:
                    self._tell(stall)
            before, cpu = cpu, time.process_time()
            period = BUSY_PERIOD if cpu - before > BUSY * period else IDLE_PERIOD

    def ask(self) -> Stall | None:
        """Ask the loop for a sign, and wait for it; what kept it where it came late."""
        sign = threading.Event()
        began, cpu = time.monotonic(), time.process_time()
        self._loop.call_soon_threadsafe(sign.set)
        why: Cause | None = None
        frames: tuple[str, ...] = ()
        serving: str | None = None
        while not self._over.is_set():
            asked, cpu_then = time.monotonic(), time.process_time()
            came = sign.wait(STALL)
            waited = time.monotonic() - asked
            if came and waited < STALL + LATE:
                break
            # One who still blocks it after a standstill is found then.
            if why is None or why is Cause.STANDSTILL:
                why = cause(waited, STALL, time.process_time() - cpu_then)
                if not came and why is not Cause.STANDSTILL:
                    frames, serving = self._where(self._ident), self._served()
            if came:
                break
        if why is None:
            return None
        return Stall(time.monotonic() - began, time.process_time() - cpu, why, frames, serving)

    def _served(self) -> str | None:
        # It is looked at from outside of its thread: anything may change meanwhile.
        with suppress(RuntimeError):
            return self._serving(asyncio.current_task(self._loop))
        return None


class Teller:
    """Writes stalls to the log: one line in `QUIET` seconds, with the number of those before it that had none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0
        self._untold = 0

    def tell(self, stall: Stall) -> None:
        """Tell of it, or count it."""
        if self._clock() < self._next:
            self._untold += 1
            return
        facts = {"seconds": round(stall.seconds, 3), "cpu_seconds": round(stall.cpu_seconds, 3)}
        if stall.cause is Cause.STANDSTILL:
            log.warning("process_stood_still", **facts, cause=stall.cause.value, untold=self._untold)
        else:
            log.warning(
                "event_loop_stalled",
                **facts,
                cause=stall.cause.value,
                frames=stall.frames,
                serving=stall.serving,
                untold=self._untold,
            )
        self._next, self._untold = self._clock() + QUIET, 0
