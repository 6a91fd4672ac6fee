"""Ids: 63-bit integers ordered by time, shown with a typed prefix and 13 Crockford base32 characters."""

from __future__ import annotations

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 13
RANDOM_BITS = 21
# Crockford's digits to those of `int`; every other letter to none.
_DIGITS = str.maketrans(
    {chr(code): "!" for code in range(128) if chr(code).isalpha()}
    | dict(zip(ALPHABET, "0123456789abcdefghijklmnopqrstuv", strict=True))
)
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
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
    high = f"{ALPHABET[number >> 60 & 31]}{_PAIRS[number >> 50 & 1023]}{_PAIRS[number >> 40 & 1023]}"
    low = f"{_PAIRS[number >> 20 & 1023]}{_PAIRS[number >> 10 & 1023]}{_PAIRS[number & 1023]}"
    return f"{prefix}_{high}{_PAIRS[number >> 30 & 1023]}{low}"


def read(prefix: str, text: str) -> int | None:
    """The number of a shown id; None where the text is not one with this prefix."""
    head, _, tail = text.partition("_")
    # `int` also reads signs, underscores, other scripts' digits and upper case: none of these is left to it.
    if head != prefix or len(tail) != LENGTH or not (tail.isalnum() and tail.isascii()):
        return None
    try:
        number = int(tail.translate(_DIGITS), 32)
    except ValueError:
        return None
    return number if number < 1 << 63 else None
