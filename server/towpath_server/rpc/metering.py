"""The quota of calls at the boundary: who is over it is told so, and told no faster for asking more often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from towpath_server.core.errors import RateExceeded

# Of a tenant, so many calls are refused at once; then one comes after the other (seconds), the last so late.
PROMPT, PACE, LONGEST = 10, 0.05, 1.0


class Meter(Protocol):
    """What counts calls, where anybody may only make so many."""

    is_on: bool

    def call(self, tenant: str, user: str) -> None:
        """A call of this user. Raises `RateExceeded`."""


class Metered:
    """Calls against their meter.

    Whoever is refused and asks again at once costs nearly as much as if the call were served: such calls wait for their
    refusal, and what a client has under way at once bounds what it asks.
    """

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._clock = clock
        # When the refusal of a tenant's next call is due.
        self._due: dict[str, float] = {}

    @property
    def is_on(self) -> bool:
        """Whether there is any quota."""
        return self._meter.is_on

    async def call(self, tenant: str, user: str) -> None:
        """A call of this user. Raises `RateExceeded`, perhaps after a wait."""
        try:
            self._meter.call(tenant, user)
        except RateExceeded:
            if wait := self.wait(tenant):
                await asyncio.sleep(wait)
            raise

    def wait(self, tenant: str) -> float:
        """How long one more refusal of this tenant's takes (seconds)."""
        now = self._clock()
        due = max(self._due.get(tenant, 0.0), now - PROMPT * PACE) + PACE
        # Who waits for the longest time does not make the others wait longer.
        self._due[tenant] = min(due, now + LONGEST)
        return max(self._due[tenant] - now, 0.0)
