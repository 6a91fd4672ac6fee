"""A user's share of the scheduler: in order, bounded, and never taken from another."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from towpath_server.rpc.shares import FEW, LEAST, LITTLE_REST, MOST_REST, MUCH, SHORT, THERE, Others, Shares, shares


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
    # However often others come, none of them counts as there for long enough to be rested for.
    alone = Others(map(float, itertools.count(0, 10)).__next__)
    one = Desk(Shares(alone, share, share))
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


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_while_others_are_there_a_share_is_smaller() -> None:
    clock = Clock()
    at = Shares(Others(clock), 10 * LEAST, 5 * LEAST)
    await at.begin("flood", 5 * LEAST)
    await at.begin("flood", 5 * LEAST)
    at.end("flood", 5 * LEAST)
    await at.begin("other", LEAST)
    at.end("other", LEAST)
    second = asyncio.ensure_future(at.begin("flood", 5 * LEAST))
    await asyncio.sleep(0)
    assert not second.done()
    at.end("flood", 5 * LEAST)
    await second
    # Alone again.
    clock.now += THERE
    await at.begin("flood", 5 * LEAST)
    assert not at._lines["flood"].waiting


async def test_a_tenant_with_many_users_has_no_more_for_that() -> None:
    share = 10 * LEAST
    at = Shares(Others(), share, share, within=Shares(Others(), share, share))
    floods = [asyncio.ensure_future(at.begin(("flood", number), 5 * LEAST)) for number in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [one.done() for one in floods] == [True, True, False, False]
    await at.begin(("quiet", 0), LEAST)
    # One that goes away gives back what it had of its own, and the next of the tenant comes.
    floods[2].cancel()
    await asyncio.gather(floods[2], return_exceptions=True)
    at.end(("flood", 0), 5 * LEAST)
    await floods[3]
    for user in (("flood", 1), ("flood", 3)):
        at.end(user, 5 * LEAST)
    at.end(("quiet", 0), LEAST)
    assert at._lines == {}
    assert at._within is not None
    assert at._within._lines == {}


async def test_while_others_are_there_a_call_leaves_them_as_long_as_it_took() -> None:
    clock = Clock()
    at = shares(Others(clock), Others(clock))
    # Alone nobody rests.
    await at.begin(("flood", 0), MUCH)
    assert at.rest(MUCH, 0.01) == 0.0
    await at.begin(("quiet", 0), LEAST)
    assert at.rest(MUCH, 0.01) == 0.01
    assert at.rest(MUCH, 2 * SHORT) == pytest.approx(3 * SHORT)
    assert at.rest(MUCH, 60.0) == MOST_REST
    assert at.rest(LEAST, LITTLE_REST / 2) == LITTLE_REST / 2
    assert at.rest(LEAST, 60.0) == LITTLE_REST
    at.end(("flood", 0), MUCH)
    async with at.of(("flood", 0), MUCH):
        pass
    # Its answer is gone, and the share is kept for a moment.
    assert ("flood", 0) in at._lines
    async with asyncio.timeout(10):
        await at.begin(("flood", 0), MUCH)
    clock.now += THERE
    assert at.rest(MUCH, 0.01) == 0.0


async def test_of_small_calls_a_tenant_has_few_under_way_while_others_are_there() -> None:
    clock = Clock()
    at = shares(Others(clock), Others(clock))
    # Alone, and beside another user of its own.
    users = [("flood", number % 2) for number in range(2 * FEW)]
    for user in users:
        await asyncio.wait_for(at.begin(user, LEAST), 10)
    await at.begin(("quiet", 0), LEAST)
    late = asyncio.ensure_future(at.begin(("flood", 2), LEAST))
    for user in users[: FEW + 1]:
        await asyncio.sleep(0)
        assert not late.done()
        at.end(user, LEAST)
    await asyncio.wait_for(late, 10)
    # One that gives up while it waits takes no place.
    gone = asyncio.ensure_future(at.begin(("flood", 3), LEAST))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    at.end(("flood", 2), LEAST)
    await asyncio.wait_for(at.begin(("flood", 3), LEAST), 10)
    for user in (*users[FEW + 1 :], ("flood", 3), ("quiet", 0)):
        at.end(user, LEAST)
    assert at._lines == {}
    assert at._within is not None
    assert at._within._lines == {}


async def test_whoever_looks_is_there_for_those_who_do_and_the_other_way_round() -> None:
    clock = Clock()
    users, tenants = Others(clock), Others(clock)
    calls, looks = shares(users, tenants), shares(users, tenants)
    await looks.begin(("flood", 0), MUCH)
    assert looks.rest(MUCH, 0.01) == 0.0
    await calls.begin(("quiet", 0), LEAST)
    assert looks.rest(MUCH, 0.01) == 0.01
    # One look at a time; a call of the quiet one's is no look.
    second = asyncio.ensure_future(looks.begin(("flood", 1), MUCH))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not second.done()
    looks.end(("flood", 0), MUCH)
    await asyncio.wait_for(second, 10)


async def test_a_small_call_that_goes_away_in_its_very_turn_leaves_its_place_to_the_next() -> None:
    at = Shares(Others(), few=2)
    await at.begin("quiet", LEAST)
    await at.begin("flood", LEAST)
    await at.begin("flood", LEAST)
    third, fourth = (asyncio.ensure_future(at.begin("flood", LEAST)) for _ in range(2))
    await asyncio.sleep(0)
    at.end("flood", LEAST)
    # It may begin, but has not yet.
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    await asyncio.wait_for(fourth, 10)
