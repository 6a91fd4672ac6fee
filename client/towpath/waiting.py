"""Waits for jobs that go on at the same time share their calls: what each client does for `result` and `wait`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from towpath import requests
from towpath.coalescing import WINDOW
from towpath.errors import TowpathError
from towpath.v1.job_pb2 import JOB_STATE_SUCCEEDED, Job

LONGEST_WINDOW = 5e-3

# Those of the jobs that are over, once one is.
AskAny: TypeAlias = Callable[[list[str]], Awaitable[Sequence[Job]]]


@dataclass(eq=False, slots=True)
class Awaited:
    """A job that some wait for together. Decided with None, each of them asks for it alone."""

    decided: asyncio.Future[Job | None]
    waiters: int = 0


class AsyncWaits:
    """For the tasks of an event loop. Who waits while nobody else does asks for its own job, at once."""

    def __init__(self, ask_any: AskAny) -> None:
        self._ask_any = ask_any
        self._under_way = 0
        self._awaited: dict[str, Awaited] = {}
        # Those of them that no call asks for yet.
        self._new: list[str] = []
        # An event loop alone would forget its tasks.
        self._asking: set[asyncio.Task[None]] = set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Goes round one wait."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def shared(self, job: Job, seconds: float) -> Job | None:
        """The job once it is over, where others wait at the same time; None: it has to be asked for alone."""
        # Answers to many come without specs.
        if self._under_way < 2 or job.WhichOneof("spec") is None:
            return None
        one = self._awaited.get(job.job_id) or self._add(job.job_id)
        one.waiters += 1
        try:
            async with asyncio.timeout(seconds):
                # Another wait may be for the same job.
                over = await asyncio.shield(one.decided)
        except TimeoutError:
            return None
        finally:
            one.waiters -= 1
        if over is None or (over.state == JOB_STATE_SUCCEEDED and not over.HasField("result")):
            return None
        return requests.with_spec(over, job)

    def _add(self, job_id: str) -> Awaited:
        loop = asyncio.get_running_loop()
        one = self._awaited[job_id] = Awaited(loop.create_future())
        self._new.append(job_id)
        if len(self._new) == 1:
            loop.call_later(min(WINDOW * max(len(self._asking), 1), LONGEST_WINDOW), self._ask_for_new)
        return one

    def _ask_for_new(self) -> None:
        while group := self._take(requests.MAX_BATCH):
            task = asyncio.create_task(self._ask_for(group))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    def _take(self, most: int) -> dict[str, Awaited]:
        taken, self._new = self._new[:most], self._new[most:]
        return {job_id: self._awaited[job_id] for job_id in taken}

    async def _ask_for(self, group: dict[str, Awaited]) -> None:
        try:
            while group:
                for job in await self._ask_any(list(group)):
                    self._decide(group, job.job_id, job)
                for job_id in [job_id for job_id, one in group.items() if not one.waiters]:
                    self._decide(group, job_id, None)
                # Those who came meanwhile need no call of their own.
                group |= self._take(requests.MAX_BATCH - len(group))
        except TowpathError:
            # Refused for one of them, or nobody there: each goes on by itself.
            pass
        finally:
            for job_id in list(group):
                self._decide(group, job_id, None)

    def _decide(self, group: dict[str, Awaited], job_id: str, job: Job | None) -> None:
        del self._awaited[job_id]
        group.pop(job_id).decided.set_result(job)


class Waits:
    """For threads: each asks for its own job."""

    def __init__(self, ask_any: object) -> None:
        """Takes what it has no use for."""

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Goes round one wait."""
        yield

    def shared(self, job: Job, seconds: float) -> Job | None:
        """Nothing."""
        return None
