"""Threads that run functions by the batch: one as long as it keeps up, more where jobs have to wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

MOST_THREADS = 32
# Seconds after which a job that waits gets another thread, and after which results are told though others follow.
PATIENCE = 0.05
TELL_AFTER = 0.005


class Work(Protocol):
    """What is given to the threads; `taken` is a time of the monotonic clock."""

    taken: float


W = TypeVar("W", bound=Work)
R = TypeVar("R")


class Threads(Generic[W, R]):
    """A pool of threads. All methods are for the event loop that it was made in; so is `deliver`, `perform` is not.

    Results are delivered together: those of some milliseconds, and at once where nothing else is to be done.
    """

    def __init__(self, perform: Callable[[W], R], deliver: Callable[[list[R]], None]) -> None:
        self._perform = perform
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[W] = deque()
        self._finished: deque[R] = deque()
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._started = 0
        self._busy = 0

    def give(self, work: Sequence[W]) -> None:
        """Puts work at the end of the line."""
        self._waiting.extend(work)
        if not self._busy:
            self._wake_one()

    def take_back(self, work: W) -> bool:
        """Takes work out of the line; False where a thread has it already."""
        try:
            self._waiting.remove(work)
        except (ValueError, IndexError):
            return False
        return True

    def look(self) -> None:
        """Gives those that wait too long another thread, and tells what is finished. Call it from time to time."""
        self._tell()
        try:
            first = self._waiting[0]
        except IndexError:
            return
        if time.monotonic() - first.taken > PATIENCE and self._busy < MOST_THREADS:
            self._wake_one()

    def close(self) -> None:
        """Ends the threads, each after the work that it is at."""
        self._waiting.clear()
        for _ in range(self._started):
            self._wake.put(False)

    def _wake_one(self) -> None:
        if self._started == self._busy:
            self._started += 1
            # A daemon: what hangs in somebody's function must not keep the worker from ending.
            threading.Thread(target=self._run, name="towpath-inline", daemon=True).start()
        self._busy += 1
        self._wake.put(True)

    def _run(self) -> None:
        while self._wake.get():
            told = time.monotonic()
            while True:
                try:
                    work = self._waiting.popleft()
                except IndexError:
                    break
                self._finished.append(self._perform(work))
                if time.monotonic() - told > TELL_AFTER:
                    told = time.monotonic()
                    self._post(self._tell)
            self._post(self._idle)

    def _post(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # The event loop is closed: nobody listens any more.
            return

    def _idle(self) -> None:
        self._busy -= 1
        if self._waiting and not self._busy:
            self._wake_one()
        self._tell()

    def _tell(self) -> None:
        results = []
        while self._finished:
            results.append(self._finished.popleft())
        if results:
            self._deliver(results)
