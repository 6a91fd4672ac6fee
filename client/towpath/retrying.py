"""When a failed call is tried again: transient errors only, full jitter, never past the caller's patience.

Creates carry a request_id, and all other calls say how things shall be: repeated, they do no more than once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, wait_exponential

from towpath.errors import ResourceExhausted, TowpathError, Unavailable

FIRST_DELAY = 0.1
LONGEST_DELAY = 3.0
BOUND = wait_exponential(multiplier=FIRST_DELAY, max=LONGEST_DELAY)
# Nobody has ever answered there: a wrong address is more likely than a restart.
FIRST_CONTACT = 3.0
# A watch that fell behind goes on from the last sequence seen.
SLOW_CONSUMER = "SLOW_CONSUMER"
# Room comes back with work that is done, not with time: whoever submits must hear of it.
QUOTA_EXCEEDED = "QUOTA_EXCEEDED"


class Deadline:
    """A moment after which the caller no longer waits; `seconds` None means never."""

    __slots__ = ("_clock", "_end")

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds

    def remaining(self, most: float | None = None) -> float | None:
        """Seconds left, at least 0 and at most `most`; None where neither bounds it."""
        if self._end is None:
            return most
        left = max(self._end - self._clock(), 0.0)
        return left if most is None else min(left, most)

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.remaining() == 0.0


class Backoff:
    """The delays between the tries of one call: a random part of 0.1 s, 0.2 s, 0.4 s ... 3 s (full jitter)."""

    __slots__ = ("_deadline", "_jitter", "_tries")

    def __init__(self, deadline: Deadline, jitter: Callable[[], float] = random.random) -> None:
        self._deadline = deadline
        self._jitter = jitter
        # Made with the first failure: most calls have none.
        self._tries: RetryCallState | None = None

    def reset(self) -> None:
        """Begins again with short delays, once something went well."""
        self._tries = None

    def next_delay(self, error: TowpathError) -> float | None:
        """Seconds to wait before the next try; None: give up."""
        if not is_transient(error):
            return None
        if self._tries is None:
            self._tries = RetryCallState(Retrying(), None, (), {})
        delay = self._jitter() * BOUND(self._tries)
        if error.retry_after is not None:
            delay += error.retry_after
        self._tries.attempt_number += 1
        left = self._deadline.remaining()
        return delay if left is None or delay < left else None


def is_transient(error: TowpathError) -> bool:
    """Whether the same call may go well later: nobody there, or too busy and with a hint when to come back."""
    if isinstance(error, Unavailable) or error.reason == SLOW_CONSUMER:
        return True
    if error.reason == QUOTA_EXCEEDED:
        return False
    return isinstance(error, ResourceExhausted) and error.retry_after is not None
