"""A share of the scheduler for each user, and for each tenant: what is sent at once, beyond it, waits in a line.

All calls are served by one event loop, first come, first served. Without shares, whoever sends a thousand calls at once
makes everybody else wait for all of them. Whoever has many users has no more of it for that: a user's turn is one of
its tenant's, whose users come in the order of their turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

# What of one user's may be under way, in bytes of requests: 128 single jobs, or two batches, so that one is taken in
# while the other is written.
SHARE = 64 * 1024
# ... and while others are there as well: one batch, so that not every commit has one of theirs for others to wait for.
# And how long somebody counts as there (seconds).
AMONG_OTHERS = SHARE // 2
THERE = 1.0
# While other tenants are there, a tenant has only so many calls under way, however small. Calls that end together have
# their next ones come together, and those stand in front of others' before anything of ours can see whose they are.
FEW = 4
# ... and a call keeps its share for as long again as it took, which is left to others, at most so long (seconds). Of
# one that does much, what is beyond a short while counts twice: what is long cannot be cut, so it has to be rarer.
LITTLE_REST, SHORT, MOST_REST = 0.005, 0.02, 0.2
# What the smallest call counts for, and one that does much however small its request is.
LEAST = 512
MUCH = SHARE // 2


@dataclass(eq=False, slots=True)
class _Line:
    under_way: int = 0
    calls: int = 0
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)


class Others:
    """Whether more than one of them have called of late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Who came last, and until when somebody else counts as there.
        self._last: Hashable = None
        self._until = 0.0

    def came(self, one: Hashable) -> None:
        """One of them calls."""
        if one != self._last:
            if self._last is not None:
                self._until = self._clock() + THERE
            self._last = one

    @property
    def are_there(self) -> bool:
        """Whether nobody is alone."""
        return self._clock() < self._until


class Shares:
    """Who has how much under way."""

    def __init__(
        self,
        others: Others,
        share: int = SHARE,
        among_others: int = AMONG_OTHERS,
        few: int | None = None,
        *,
        within: Shares | None = None,
    ) -> None:
        """`few`: the most calls of one while others are there. `within`: those of tenants, for users that begin so."""
        self._within = within
        self._share = share
        self._among_others = among_others
        self._few = few
        self._others = others
        self._lines: dict[Hashable, _Line] = {}

    def of(
        self, user: Hashable, size: int, rest: list[asyncio.Future[Any]] | None = None
    ) -> AbstractAsyncContextManager[None]:
        """A call of `size` bytes: it begins when the user's share has room for it, or has nothing else in it.

        A user's calls begin in the order in which they came. A call whose client has gone is under way until the `rest`
        of it is done; the list is emptied at its end.
        """
        return _Turn(self, user, max(size, LEAST), rest if rest is not None else [])

    async def begin(self, user: Any, weight: int) -> None:
        """Wait until a call of this weight may begin."""
        if self._within is not None:
            # Also those that wait for others of their own user's are there.
            self._within._others.came(user[0])
        await self._begin(user, weight)
        if self._within is not None:
            try:
                await self._within._begin(user[0], weight)
            except BaseException:
                self._end(user, weight)
                raise

    def rest(self, weight: int, took: float) -> float:
        """How long a call that took so long keeps its share when it is over (seconds)."""
        if not (self._within or self)._others.are_there:
            return 0.0
        if weight < MUCH:
            return min(took, LITTLE_REST)
        return min(took + max(took - SHORT, 0.0), MOST_REST)

    async def _begin(self, user: Hashable, weight: int) -> None:
        self._others.came(user)
        line = self._lines.get(user)
        if line is None:
            line = self._lines[user] = _Line()
        if line.waiting or not self._has_room(line, weight):
            await self._wait(line, weight)
        else:
            line.under_way += weight
            line.calls += 1

    def end(self, user: Any, weight: int) -> None:
        """A call that has begun is over."""
        self._end(user, weight)
        if self._within is not None:
            self._within._end(user[0], weight)

    def _end(self, user: Hashable, weight: int) -> None:
        line = self._lines[user]
        line.under_way -= weight
        line.calls -= 1
        self._begin_next(line)
        if not line.under_way and not line.waiting:
            del self._lines[user]

    def _has_room(self, line: _Line, weight: int) -> bool:
        if not line.under_way:
            return True
        if not self._others.are_there:
            return line.under_way + weight <= self._share
        if self._few is not None and line.calls >= self._few:
            return False
        return line.under_way + weight <= self._among_others

    async def _wait(self, line: _Line, weight: int) -> None:
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (weight, begun)
        line.waiting.append(place)
        try:
            await begun
        except asyncio.CancelledError:
            if not begun.cancelled():
                line.under_way -= weight
                line.calls -= 1
            elif place in line.waiting:
                line.waiting.remove(place)
            self._begin_next(line)
            raise

    def _begin_next(self, line: _Line) -> None:
        while line.waiting and self._has_room(line, line.waiting[0][0]):
            weight, begun = line.waiting.popleft()
            if not begun.cancelled():
                line.under_way += weight
                line.calls += 1
                begun.set_result(None)


def shares(users: Others, tenants: Others) -> Shares:
    """Those of users, each within its tenant's."""
    return Shares(users, within=Shares(tenants, few=FEW))


class _Turn(AbstractAsyncContextManager[None]):
    """One call from its beginning to its end. As a generator it took twice the time."""

    __slots__ = ("_begun", "_rest", "_shares", "_user", "_weight")

    def __init__(self, shares: Shares, user: Hashable, weight: int, rest: list[asyncio.Future[Any]]) -> None:
        self._shares = shares
        self._user = user
        self._weight = weight
        self._rest = rest

    async def __aenter__(self) -> None:
        await self._shares.begin(self._user, self._weight)
        self._begun = time.monotonic()

    async def __aexit__(self, *error: object) -> None:
        left = [one for one in self._rest if not one.done()]
        # Each of them knows the context that knows this list: a cycle, left to the garbage collector.
        self._rest.clear()
        if left:
            asyncio.gather(*left, return_exceptions=True).add_done_callback(self._end)
        elif rest := self._shares.rest(self._weight, time.monotonic() - self._begun):
            asyncio.get_running_loop().call_later(rest, self._shares.end, self._user, self._weight)
        else:
            self._shares.end(self._user, self._weight)

    def _end(self, _: object) -> None:
        self._shares.end(self._user, self._weight)
