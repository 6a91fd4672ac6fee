"""An event that can also be set a little later, with all that wants it set by then."""

from __future__ import annotations

import asyncio


class Bell(asyncio.Event):
    """An asyncio.Event for news, some of which is in no hurry. For one event loop."""

    def __init__(self, every: float) -> None:
        """`every`: seconds; what is in no hurry sets it no oftener."""
        super().__init__()
        self._every = every
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def set_soon(self) -> None:
        """Sets it as soon as its turn has come."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + self._every), self._ring)

    def close(self) -> None:
        """Sets it no more by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        self._last = asyncio.get_running_loop().time()
        self.set()
