"""Load in one shape for Towpath, the toy and the peers: so many at once, and one after the other on an idle system."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.figures import Scale

#: Every no-op job carries so much.
PAYLOAD = "x" * 200
#: Child processes that run jobs, where jobs run in child processes.
CHILDREN = 2
#: How long the system is left alone between two jobs when its idle latency is measured.
PAUSE_SECONDS = 0.003
MOST_JOBS = 200_000
#: A cold system's short run says little about the next one.
MOST_GROWTH = 10


async def spread(calls: int, at_once: int, call: Callable[[int], Awaitable[Any]]) -> None:
    """So many calls, of which so many are under way at once."""
    left = iter(range(calls))

    async def some() -> None:
        for number in left:
            await call(number)

    await asyncio.gather(*(some() for _ in range(at_once)))


async def rate(run: Callable[[int], Awaitable[float]], scale: Scale, *, first: int = 300) -> float:
    """Jobs a second: `run(jobs)` gives its seconds. It is run with ever more jobs until they fill the time."""
    jobs = first
    while True:
        seconds = await run(jobs)
        if seconds >= scale.seconds / 2 or jobs >= MOST_JOBS:
            return jobs / seconds
        jobs = min(MOST_JOBS, round(jobs * min(MOST_GROWTH, scale.seconds / seconds) / 100 + 1) * 100)


async def latencies(roundtrip: Callable[[], Awaitable[Any]], scale: Scale) -> list[float]:
    """Milliseconds of each roundtrip on an idle system, in no more time than a rate is given."""
    taken: list[float] = []
    samples, warm = (100, 10) if scale.quick else (300, 20)
    until = time.perf_counter() + 2 * scale.seconds
    for number in range(samples + warm):
        begun = time.perf_counter()
        await roundtrip()
        ended = time.perf_counter()
        if number >= warm:
            taken.append((ended - begun) * 1e3)
        if ended > until and taken:
            break
        await asyncio.sleep(PAUSE_SECONDS)
    return taken
