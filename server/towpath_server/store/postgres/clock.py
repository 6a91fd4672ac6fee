"""The time by the database's clock, without asking it each time."""

from __future__ import annotations

import time
from threading import Lock

_MICROSECOND_NS = 1000
# A better look is kept for so long: clocks of machines drift apart by some ten microseconds a second.
_KEPT_NS = 30 * 10**9
# Microseconds that two looks differ by without saying anything.
_SLACK = 1000


class DatabaseClock:
    """What the steady clock of this process shows, moved to where the database's stood when it was last looked at."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._offset: int | None = None
        self._doubt = 0
        self._seen = 0
        self._last = 0
        self._told = 0

    def set(self, there: int, sent: int, received: int) -> None:
        """The database's clock stood at `there` (microseconds) between two readings of `time.monotonic_ns`."""
        doubt = received - sent
        offset = there - (sent + received) // (2 * _MICROSECOND_NS)
        with self._lock:
            if (
                self._offset is None
                or doubt <= self._doubt
                or received - self._seen > _KEPT_NS
                # This process slept, or another server has taken over: what was seen cannot be right any more.
                or abs(offset - self._offset) > (doubt + self._doubt) // _MICROSECOND_NS + _SLACK
            ):
                self._offset, self._doubt, self._seen = offset, doubt, received

    def now(self) -> int:
        """Microseconds since the epoch. It never goes backwards.

        Where the database's clock was put back, or another server's is behind, it goes on at half its pace until that
        one is abreast: standing still it would hold up every retry and every timeout.
        """
        with self._lock:
            if self._offset is None:
                raise RuntimeError("the database's clock has not been looked at")
            here = time.monotonic_ns() // _MICROSECOND_NS
            now = max(here + self._offset, self._last + (here - self._told) // 2)
            if now > self._last:
                self._last, self._told = now, here
            return self._last
