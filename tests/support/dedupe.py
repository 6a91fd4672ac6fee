"""Jobs with dedupe keys, and calls that share one commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from support.stage import ADA, Stage, settled
from towpath_server.core.errors import TowpathError
from towpath_server.core.ids import show
from towpath_server.core.job import ConflictPolicy, Definition, Job, JobState
from towpath_server.scheduler.messages import JobFilter, NewJob
from towpath_server.store.base import Store
from towpath_server.store.committer import Verb

Outcome = Job | list[Job]
REJECT, RETURN, REPLACE = ConflictPolicy.REJECT, ConflictPolicy.RETURN_EXISTING, ConflictPolicy.REPLACE


def new(key: str = "k", policy: ConflictPolicy = REJECT, *, name: str = "", request_id: str = "") -> NewJob:
    definition = Definition(
        tenant="",
        user="",
        job_type="echo",
        workspace=name,
        request_id=request_id,
        request_hash=name.encode(),
        dedupe_key=key,
    )
    return NewJob(definition, on_conflict=policy)


async def everything(s: Stage) -> list[Job]:
    """All jobs, the oldest first."""
    return await s.scheduler.jobs.find(ADA, JobFilter(), 1000, None, True)


async def states(s: Stage) -> list[JobState]:
    return [job.state for job in await everything(s)]


def by(job: Job) -> str:
    return f"replaced by {show('job', job.job_id)}"


@asynccontextmanager
async def one_commit(s: Stage, calls: int) -> AsyncIterator[None]:
    """What is called inside, so many calls, goes to the store in one commit."""
    committer = s.scheduler.timers._state.committer
    entered, gate = threading.Event(), threading.Event()

    def run(store: Store, now: int, items: Sequence[None]) -> list[TowpathError | None]:
        entered.set()
        assert gate.wait(30)
        return [None for _ in items]

    held = asyncio.create_task(committer.submit(Verb("gate", run), None))
    await asyncio.to_thread(entered.wait)
    try:
        yield
        await settled(lambda: committer._writes.qsize() == calls)
    finally:
        gate.set()
    await held


async def together(s: Stage, *calls: Coroutine[Any, Any, Outcome]) -> list[Outcome | BaseException]:
    """The outcomes of calls that the store gets in one commit, in this order."""
    async with one_commit(s, len(calls)):
        tasks = [asyncio.create_task(call) for call in calls]
    return await asyncio.gather(*tasks, return_exceptions=True)


def job_of(outcome: Outcome | BaseException) -> Job:
    assert isinstance(outcome, Job), outcome
    return outcome


def kinds(outcomes: Sequence[object]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]


async def final(s: Stage, key: str = "k") -> Job:
    job = await s.submit(dedupe_key=key)
    return await s.scheduler.jobs.cancel(ADA, job.job_id, "", False)
