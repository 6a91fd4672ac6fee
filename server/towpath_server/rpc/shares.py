"""A share of the scheduler for each user: what one of them sends at once, beyond it, waits in a line of its own.

All calls are served by one event loop, first come, first served. Without shares, whoever sends a thousand calls at once
makes everybody else wait for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

# What of one user's may be under way, in bytes of requests: 64 single jobs, or two batches, which fill a commit.
SHARE = 32 * 1024
# What the smallest call counts for, and one that does much however small its request is.
LEAST = 512
MUCH = SHARE // 2


@dataclass(eq=False, slots=True)
class _Line:
    under_way: int = 0
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)


class Shares:
    """Who has how much under way."""

    def __init__(self, share: int = SHARE) -> None:
        self._share = share
        self._lines: dict[Hashable, _Line] = {}

    @asynccontextmanager
    async def of(self, user: Hashable, size: int, rest: Sequence[asyncio.Future[Any]] = ()) -> AsyncIterator[None]:
        """A call of `size` bytes: it begins when the user's share has room for it, or has nothing else in it.

        A user's calls begin in the order in which they came. A call whose client has gone is under way until the `rest`
        of it is done.
        """
        weight = max(size, LEAST)
        line = self._lines.setdefault(user, _Line())
        if line.waiting or not self._has_room(line, weight):
            await self._wait(line, weight)
        else:
            line.under_way += weight
        try:
            yield
        finally:
            left = [one for one in rest if not one.done()]
            if left:
                asyncio.gather(*left, return_exceptions=True).add_done_callback(lambda _: self._end(user, line, weight))
            else:
                self._end(user, line, weight)

    def _end(self, user: Hashable, line: _Line, weight: int) -> None:
        line.under_way -= weight
        self._begin_next(line)
        if not line.under_way and not line.waiting:
            self._lines.pop(user, None)

    def _has_room(self, line: _Line, weight: int) -> bool:
        return not line.under_way or line.under_way + weight <= self._share

    async def _wait(self, line: _Line, weight: int) -> None:
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (weight, begun)
        line.waiting.append(place)
        try:
            await begun
        except asyncio.CancelledError:
            if not begun.cancelled():
                line.under_way -= weight
            elif place in line.waiting:
                line.waiting.remove(place)
            self._begin_next(line)
            raise

    def _begin_next(self, line: _Line) -> None:
        while line.waiting and self._has_room(line, line.waiting[0][0]):
            weight, begun = line.waiting.popleft()
            if not begun.cancelled():
                line.under_way += weight
                begun.set_result(None)
