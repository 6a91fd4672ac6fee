"""Long work in the event loop, in slices: what is short comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

# Some 5 us each: half a millisecond.
SLICE = 100


async def sliced(work: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """What `work` makes of each item. Others have their turn after every `SLICE` of them."""
    done = [work(item) for item in items[:SLICE]]
    for first in range(SLICE, len(items), SLICE):
        await asyncio.sleep(0)
        done += [work(item) for item in items[first : first + SLICE]]
    return done
