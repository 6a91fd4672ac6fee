"""Ids: 63-bit integers ordered by time, shown with a typed prefix and 13 Crockford base32 characters."""

from __future__ import annotations

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 13
RANDOM_BITS = 21
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_SHIFTS = range(50, -1, -10)
_MILLISECOND_MASK = (1 << 42) - 1


def new_id(now: int, random_bits: int, last: int = 0) -> int:
    """An id of the moment `now` (microseconds) that is greater than `last`.

    42 bits of milliseconds (until the year 2109) and 21 random bits; where that would not grow, `last + 1`.
    """
    fresh = ((now // 1000) & _MILLISECOND_MASK) << RANDOM_BITS | (random_bits & ((1 << RANDOM_BITS) - 1))
    return fresh if fresh > last else last + 1


def moment(number: int) -> int:
    """The moment (microseconds) at which an id was made, to the millisecond."""
    return (number >> RANDOM_BITS) * 1000


def show(prefix: str, number: int) -> str:
    """`show("job", 5)` is `job_0000000000005`."""
    pairs = [_PAIRS[number >> shift & 1023] for shift in _SHIFTS]
    return f"{prefix}_{ALPHABET[number >> 60 & 31]}{''.join(pairs)}"


def read(prefix: str, text: str) -> int | None:
    """The number of a shown id; None where the text is not one with this prefix."""
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != LENGTH:
        return None
    number = 0
    for character in tail:
        value = _VALUES.get(character)
        if value is None:
            return None
        number = number << 5 | value
    return number if number < 1 << 63 else None
