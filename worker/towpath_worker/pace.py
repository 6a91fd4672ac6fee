"""How far a worker may lease ahead of its slots: never for long jobs, a moment's worth of tiny ones."""

from __future__ import annotations

# Seconds. A job that is leased ahead starts within about MOMENT; one that still waits after PATIENCE is given back.
MOMENT = 0.025
PATIENCE = 0.2
LONG = 0.1
MOST_AHEAD = 64
# So many short jobs must have run in a row before it is believed that the next one is short.
ENOUGH = 8
WEIGHT = 0.2


class Pace:
    """The pace of one worker's jobs, learned from how long they ran."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._seen = 0
        self._mean = 0.0

    def ran(self, seconds: float) -> None:
        """A job ran for so long."""
        if seconds > LONG:
            self._seen = 0
            return
        self._seen += 1
        self._mean = seconds if self._seen == 1 else self._mean + WEIGHT * (seconds - self._mean)

    @property
    def ahead(self) -> int:
        """How many jobs to lease beyond the slots."""
        if self._seen < ENOUGH:
            return 0
        return min(MOST_AHEAD, int(self._slots * MOMENT / max(self._mean, 1e-6)))
