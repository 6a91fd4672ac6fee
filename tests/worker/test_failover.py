"""Several schedulers: a worker stays at one while that is well, and goes on at another with what it runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from support.fake_scheduler import WORKER_ID, FakeScheduler, listening
from support.proxy import proxy
from support.worker_stage import working
from towpath import replicas
from towpath.channel import Pace
from towpath.v1.worker_service_pb2 import Lease


@pytest.fixture(autouse=True)
def _in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "sample", lambda addresses, count: addresses)


async def goes_on(lease: Lease, second: FakeScheduler, folder: Path) -> None:
    """The worker registers at the second, once, with the job that it runs, and tells its outcome there."""
    [again] = await second.until(lambda: second.registrations)
    assert again.worker_id == WORKER_ID
    assert [held.lease_token for held in again.held_leases] == [lease.lease_token]
    await asyncio.to_thread((folder / "go").touch)
    assert (await second.outcome(lease)).HasField("succeeded")
    await second.outcome(await second.offer("t.add", x=1))
    assert len(second.registrations) == 1


async def runs_long(first: FakeScheduler, folder: Path) -> Lease:
    """A job that waits until it is let go."""
    lease = await first.offer("t.wait", path=str(folder / "go"))
    await first.said(lease, "waiting")
    return lease


@asynccontextmanager
async def two(first_stack: AsyncExitStack) -> AsyncIterator[tuple[FakeScheduler, FakeScheduler]]:
    """Two schedulers; the first one ends with its stack, if not before."""
    # Their jobs are told apart by their numbers.
    async with first_stack, listening(FakeScheduler(first_number=1001)) as second:
        yield await first_stack.enter_async_context(listening(FakeScheduler())), second


def both(first: str, second: FakeScheduler) -> str:
    """What the worker is given."""
    return f"{first},{second.address}"


async def test_its_scheduler_is_killed(tmp_path: Path) -> None:
    killing = AsyncExitStack()
    async with (
        two(killing) as (first, second),
        working(first, tmp_path / "state", server=both(first.address, second)),
    ):
        lease = await runs_long(first, tmp_path)
        assert not second.registrations
        await killing.aclose()
        await goes_on(lease, second, tmp_path)


async def test_its_scheduler_stops(tmp_path: Path) -> None:
    async with (
        two(AsyncExitStack()) as (first, second),
        working(first, tmp_path / "state", server=both(first.address, second), slots=2),
    ):
        lease = await runs_long(first, tmp_path)
        # One poll brought the job, and the other is told that it stops.
        await first.until(lambda: first.polls[1:])
        await first.drain()
        await goes_on(lease, second, tmp_path)


async def test_its_scheduler_is_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "AMONG_OTHERS", Pace(keepalive=1_000, ping_timeout=300, connect=300))
    async with (
        two(AsyncExitStack()) as (first, second),
        proxy(first.address) as network,
        working(first, tmp_path / "state", server=both(network.address, second)),
    ):
        lease = await runs_long(first, tmp_path)
        network.swallow()
        await goes_on(lease, second, tmp_path)


async def test_where_its_reports_go_its_parked_poll_goes_too(tmp_path: Path) -> None:
    async with two(AsyncExitStack()) as (first, second):
        first.poll_timeout = 3600.0
        async with working(first, tmp_path / "state", server=both(first.address, second)):
            await first.until(lambda: first.polls and first.heartbeats)
            first.break_streams()
            await second.outcome(await second.offer("t.add", x=1))
            assert len(first.registrations) == len(second.registrations) == 1


async def test_where_its_polls_go_its_reports_go_too(tmp_path: Path) -> None:
    async with (
        two(AsyncExitStack()) as (first, second),
        working(first, tmp_path / "state", server=both(first.address, second)),
    ):
        await first.until(lambda: first.polls and first.heartbeats)
        first.lost_answers = 1
        await first.offer("t.add", x=1)
        await second.outcome(await second.offer("t.add", x=1))
        assert len(first.registrations) == len(second.registrations) == 1


async def test_the_first_one_is_not_there(tmp_path: Path) -> None:
    async with (
        listening(FakeScheduler()) as second,
        working(second, tmp_path / "state", server=both("127.0.0.1:9", second)),
    ):
        await second.outcome(await second.offer("t.add", x=1))


async def test_a_load_balancer_leads_its_connections_to_different_schedulers(tmp_path: Path) -> None:
    async with (
        two(AsyncExitStack()) as (first, second),
        proxy(first.address, second.address) as balancer,
        working(first, tmp_path / "state", server=balancer.address),
    ):
        await first.outcome(await first.offer("t.add", x=1))
        # The way of the reports was changed, not the session.
        assert len(first.registrations) == first.streams == second.streams == 1
        assert balancer.connections == 2
        assert not second.registrations
        first.forget()
        await first.until(lambda: first.registrations[1:])
        await first.outcome(await first.offer("t.add", x=1))
