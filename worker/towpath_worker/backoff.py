"""Waits between tries: exponential, with full jitter, so that a thousand workers do not come back at once."""

from __future__ import annotations

import asyncio

from tenacity import RetryCallState, Retrying, wait_random_exponential


class Backoff:
    """Between 0 and a bound that doubles with each wait, in seconds."""

    def __init__(self, initial: float = 0.5, longest: float = 3.0) -> None:
        # Well below a lease: after a restart of the scheduler each worker must be back before its jobs count as lost.
        self._bound = wait_random_exponential(multiplier=initial, max=longest)
        self._tries = RetryCallState(Retrying(), None, (), {})

    async def wait(self, at_least: float = 0.0) -> None:
        """Waits; at least as long as the other side asked for."""
        wait = self._bound(self._tries)
        self._tries.attempt_number += 1
        await asyncio.sleep(at_least + wait)

    def reset(self) -> None:
        """It worked: the next wait is short again."""
        self._tries.attempt_number = 1
