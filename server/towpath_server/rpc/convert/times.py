"""Moments and lengths of time: integer microseconds inside, Timestamp and Duration outside."""

from __future__ import annotations

from functools import lru_cache

from google.protobuf import duration_pb2, timestamp_pb2

SECOND = 1_000_000
# The end of the year 9999, where Timestamp ends.
LATEST = 253_402_300_799 * SECOND
# Ten thousand years, the most that a Duration holds.
LONGEST = 315_576_000_000 * SECOND


def timestamp(moment: int | None) -> timestamp_pb2.Timestamp | None:
    """A Timestamp of microseconds since the epoch; None stays unset."""
    if moment is None:
        return None
    seconds, rest = divmod(moment, SECOND)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=rest * 1000)


def duration(length: int | None) -> duration_pb2.Duration | None:
    """A Duration of microseconds, to be copied into a message and not to be changed; None stays unset."""
    return None if length is None else _duration(length)


@lru_cache(maxsize=1024)
def _duration(length: int) -> duration_pb2.Duration:
    seconds, rest = divmod(abs(length), SECOND)
    sign = -1 if length < 0 else 1
    return duration_pb2.Duration(seconds=sign * seconds, nanos=sign * rest * 1000)


def moment(message: timestamp_pb2.Timestamp) -> int:
    """Microseconds since the epoch, cut to what a Timestamp may hold: any 64 bits can arrive."""
    return min(max(message.seconds * SECOND + message.nanos // 1000, 0), LATEST)


def length(message: duration_pb2.Duration) -> int:
    """Microseconds, cut to what a Duration may hold: any 64 bits can arrive."""
    return min(max(message.seconds * SECOND + message.nanos // 1000, -LONGEST), LONGEST)
