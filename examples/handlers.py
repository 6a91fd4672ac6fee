"""Two job types of your own. Start a worker with them, in this folder, and submit:

towpath-worker --server 127.0.0.1:7070 --handlers handlers
towpath submit primes.count --param limit=2000000 --wait
towpath submit text.words --param text="to be or not to be" --param top=2 --wait
"""

from __future__ import annotations

import math
from collections import Counter

from towpath_worker import Context, handler


@handler("primes.count")
def count_primes(ctx: Context, limit: int = 1_000_000, steps: int = 20) -> dict[str, int]:
    """Counts the primes below `limit` by a sieve, one segment after the other, and can be cancelled between them."""
    small = _sieve(math.isqrt(limit) + 1)
    found = 0
    for step in range(steps):
        ctx.raise_if_cancelled()
        low, high = limit * step // steps, limit * (step + 1) // steps
        found += _primes_between(low, high, small)
        ctx.progress(100 * (step + 1) / steps, f"up to {high:,}", phase="sieve", metrics={"primes": found})
    ctx.log(f"{found:,} primes below {limit:,}")
    return {"limit": limit, "primes": found}


@handler("text.words")
def most_common_words(ctx: Context, text: str, top: int = 10) -> list[list[str | int]]:
    """The most common words of a text, each with its count."""
    words = text.lower().split()
    ctx.progress(50, f"{len(words):,} words", phase="count")
    return [[word, count] for word, count in Counter(words).most_common(top)]


def _sieve(limit: int) -> list[int]:
    """All primes up to `limit`."""
    is_prime = bytearray([1]) * (limit + 1)
    is_prime[:2] = bytes(len(is_prime[:2]))
    for number in range(2, math.isqrt(limit) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number, prime in enumerate(is_prime) if prime]


def _primes_between(low: int, high: int, small: list[int]) -> int:
    """How many primes there are from `low` up to, not including, `high`."""
    is_prime = bytearray([1]) * (high - low)
    for number in range(low, min(2, high)):
        is_prime[number - low] = 0
    for prime in small:
        first = max(prime * prime, -(-low // prime) * prime)
        if first < high:
            is_prime[first - low :: prime] = bytes(len(range(first, high, prime)))
    return sum(is_prime)
