"""Waits between tries: exponential, with full jitter, so that a thousand workers do not come back at once."""

from __future__ import annotations

import asyncio
import random


class Backoff:
    """Between 0 and a bound that doubles with each wait, in seconds."""

    def __init__(self, initial: float = 0.5, longest: float = 15.0) -> None:
        self._initial = initial
        self._longest = longest
        self._waits = 0

    async def wait(self, at_least: float = 0.0) -> None:
        """Waits; at least as long as the other side asked for."""
        bound = min(self._longest, self._initial * 2.0 ** min(self._waits, 30))
        self._waits += 1
        await asyncio.sleep(at_least + random.uniform(0, bound))

    def reset(self) -> None:
        """It worked: the next wait is short again."""
        self._waits = 0
