"""A user's share of the scheduler: in order, bounded, and never taken from another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from towpath_server.rpc.shares import LEAST, MOST_REST, MUCH, THERE, Shares


class Desk:
    """Calls that stay until they are let go."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.under_way: list[str] = []
        # What goes on though the caller is gone.
        self.rest: list[asyncio.Future[Any]] = []

    async def call(self, name: str, user: str, size: int) -> None:
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.get_running_loop().create_task(self._serve(name, user, size))
        await self.turn()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.turn()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await self.turn()

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _serve(self, name: str, user: str, size: int) -> None:
        async with self._shares.of(user, size, self.rest):
            self.under_way.append(name)
            try:
                await self._ends[name].wait()
            finally:
                self.under_way.remove(name)


@asynccontextmanager
async def desk(share: int = 10 * LEAST) -> AsyncIterator[Desk]:
    one = Desk(Shares(share))
    try:
        yield one
    finally:
        await one.close()
        assert one._shares._lines == {}


async def test_a_user_s_calls_beyond_the_share_wait_in_order_and_nobody_else_s() -> None:
    async with desk() as at:
        for number in range(4):
            await at.call(f"flood-{number}", "flooder", 5 * LEAST)
        await at.call("quiet", "somebody", LEAST)
        assert at.under_way == ["flood-0", "flood-1", "quiet"]
        await at.end("flood-1")
        assert at.under_way == ["flood-0", "quiet", "flood-2"]
        await at.end("flood-0")
        assert at.under_way == ["quiet", "flood-2", "flood-3"]


async def test_a_call_larger_than_the_share_goes_alone_and_small_ones_do_not_pass_it() -> None:
    async with desk() as at:
        await at.call("small", "user", 1)
        await at.call("huge", "user", 100 * LEAST)
        await at.call("late", "user", 1)
        assert at.under_way == ["small"]
        await at.end("small")
        assert at.under_way == ["huge"]
        await at.end("huge")
        assert at.under_way == ["late"]


@pytest.mark.parametrize("gone", ["waits", "under way"])
async def test_a_caller_that_goes_away_gives_its_share_back(gone: str) -> None:
    async with desk() as at:
        await at.call("under way", "user", 8 * LEAST)
        await at.call("waits", "user", 8 * LEAST)
        await at.call("last", "user", 8 * LEAST)
        await at.cancel(gone)
        if gone == "waits":
            await at.end("under way")
            assert at.under_way == ["last"]
        else:
            assert at.under_way == ["waits"]


async def test_what_is_carried_out_though_its_caller_is_gone_counts_until_it_is_done() -> None:
    async with desk() as at:
        goes_on: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        at.rest.append(goes_on)
        await at.call("gone", "user", 8 * LEAST)
        await at.call("next", "user", 8 * LEAST)
        await at.cancel("gone")
        assert at.under_way == []
        goes_on.set_result(None)
        await at.turn()
        assert at.under_way == ["next"]


async def test_a_caller_that_goes_away_in_its_very_turn_gives_it_to_the_next() -> None:
    async with desk() as at:
        await at.call("first", "user", 8 * LEAST)
        await at.call("second", "user", 8 * LEAST)
        await at.call("third", "user", 8 * LEAST)
        at._ends["first"].set()
        # One turn: the first ends and the second may begin, but has not yet.
        await asyncio.sleep(0)
        await at.cancel("second")
        assert at.under_way == ["third"]


async def test_while_others_are_there_a_share_is_smaller() -> None:
    now = 100.0
    shares = Shares(10 * LEAST, 5 * LEAST, lambda: now)
    await shares.begin("flood", 5 * LEAST)
    await shares.begin("flood", 5 * LEAST)
    shares.end("flood", 5 * LEAST)
    await shares.begin("other", LEAST)
    shares.end("other", LEAST)
    second = asyncio.ensure_future(shares.begin("flood", 5 * LEAST))
    await asyncio.sleep(0)
    assert not second.done()
    shares.end("flood", 5 * LEAST)
    await second
    # Alone again.
    now += THERE
    await shares.begin("flood", 5 * LEAST)
    assert not shares._lines["flood"].waiting


async def test_a_tenant_with_many_users_has_no_more_for_that() -> None:
    shares = Shares(10 * LEAST, within=Shares(10 * LEAST))
    floods = [asyncio.ensure_future(shares.begin(("flood", number), 5 * LEAST)) for number in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [one.done() for one in floods] == [True, True, False, False]
    await shares.begin(("quiet", 0), LEAST)
    # One that goes away gives back what it had of its own, and the next of the tenant comes.
    floods[2].cancel()
    await asyncio.gather(floods[2], return_exceptions=True)
    shares.end(("flood", 0), 5 * LEAST)
    await floods[3]
    for user in (("flood", 1), ("flood", 3)):
        shares.end(user, 5 * LEAST)
    shares.end(("quiet", 0), LEAST)
    assert shares._lines == {}
    assert shares._within is not None
    assert shares._within._lines == {}


async def test_what_does_much_leaves_others_as_long_as_it_took() -> None:
    now = 100.0
    shares = Shares(2 * MUCH, MUCH, lambda: now, within=Shares(2 * MUCH, MUCH, lambda: now))
    # Alone nobody rests.
    await shares.begin(("flood", 0), MUCH)
    assert shares.rest(MUCH, 0.01) == 0.0
    await shares.begin(("quiet", 0), LEAST)
    assert shares.rest(MUCH, 0.01) == 0.01
    assert shares.rest(MUCH, 60.0) == MOST_REST
    assert shares.rest(LEAST, 0.01) == 0.0
    shares.end(("flood", 0), MUCH)
    async with shares.of(("flood", 0), MUCH):
        pass
    # Its answer is gone, and the share is kept for a moment.
    assert ("flood", 0) in shares._lines
    async with asyncio.timeout(10):
        await shares.begin(("flood", 0), MUCH)
    now += THERE
    assert shares.rest(MUCH, 0.01) == 0.0
