"""Work beside the caller's own, and a signal from there: the same for the tasks of an event loop and for threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine


class AsyncBackground:
    """Work in a task of its own. It tells of its failures itself."""

    def __init__(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._task = asyncio.create_task(work())

    async def join(self) -> None:
        """Waits until it is done."""
        await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Ends it now."""
        self._task.cancel()
        await self.join()


class Background:
    """Work in a thread of its own. It tells of its failures itself."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name="towpath-background", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits until it is done."""
        self._thread.join()

    def stop(self) -> None:
        """Nothing: a thread ends with what it waits for, which its owner has ended."""


class AsyncSignal:
    """Set for one who waits, any number of times; a wait takes them all."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Something has happened."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Whether something has happened since the last wait, or does in so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Signal:
    """The same for threads."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Something has happened."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Whether something has happened since the last wait, or does in so many seconds."""
        happened = self._event.wait(seconds)
        self._event.clear()
        return happened
