"""Creates that come together travel together, so that whoever submits one by one pays for batches.

One that comes to an idle client goes at once, alone. What comes while calls are under way, or just after many, waits
for the others of a short window, and goes with them as one batch.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent import futures
from itertools import islice
from typing import TypeAlias, TypeVar

from towpath import process, requests
from towpath.errors import RequestCancelled, TowpathError
from towpath.v1.job_pb2 import CONFLICT_POLICY_RETURN_EXISTING, Job
from towpath.v1.job_service_pb2 import CreateJobRequest

# With each call that is under way already the window is so many seconds longer: slow calls make large batches.
WINDOW = 500e-6

T = TypeVar("T")
Outcome: TypeAlias = Job | TowpathError
CreateEach: TypeAlias = Callable[[Sequence[CreateJobRequest]], Sequence[Outcome]]
AsyncCreateEach: TypeAlias = Callable[[Sequence[CreateJobRequest]], Awaitable[Sequence[Outcome]]]


class Traffic:
    """How busy a client is with creates."""

    def __init__(self) -> None:
        self.under_way = 0
        self._busy_until = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether a create that comes now has nobody to wait for."""
        return not self.under_way and time.monotonic() >= self._busy_until

    @property
    def window(self) -> float:
        """How many seconds the first one that waits has to wait for others."""
        return WINDOW * max(self.under_way, 1)

    def ended(self, creates: int) -> None:
        """A call is over. Those who hear of their jobs together will submit the next ones together."""
        self.under_way -= 1
        if creates > 1:
            self._busy_until = time.monotonic() + WINDOW


class AsyncCoalescer:
    """For the tasks of an event loop."""

    def __init__(self, create_each: AsyncCreateEach) -> None:
        self._create_each = create_each
        self._traffic = Traffic()
        self._waiting: list[tuple[CreateJobRequest, asyncio.Future[Outcome]]] = []
        # An event loop alone would forget its tasks.
        self._sending: set[asyncio.Task[None]] = set()

    async def create(self, request: CreateJobRequest) -> Job:
        """The new job; it is on the scheduler's disk."""
        if goes_alone(request) or (not self._waiting and self._traffic.is_idle):
            [outcome] = await self._call([request])
            return job_or_raise(outcome)
        loop = asyncio.get_running_loop()
        decided: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((request, decided))
        if len(self._waiting) == 1:
            loop.call_later(self._traffic.window, self._send_waiting)
        return job_or_raise(await decided)

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for batch in grouped([one for one in waiting if not one[1].done()]):
            # Not in the task of one that waits: were that cancelled, the others would go with it.
            task = asyncio.create_task(self._send(batch))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, batch: Sequence[tuple[CreateJobRequest, asyncio.Future[Outcome]]]) -> None:
        outcomes: Sequence[Outcome] = ()
        try:
            outcomes = await self._call([request for request, _ in batch])
        finally:
            # Whatever happened, nobody may wait for ever.
            cancelled = RequestCancelled("The call was cancelled; was its client closed?")
            for (_, decided), outcome in zip(batch, outcomes or [cancelled] * len(batch), strict=True):
                if not decided.done():
                    decided.set_result(outcome)

    async def _call(self, creates: Sequence[CreateJobRequest]) -> Sequence[Outcome]:
        self._traffic.under_way += 1
        try:
            return await self._create_each(creates)
        finally:
            self._traffic.ended(len(creates))


class Coalescer:
    """For threads: the first one that waits sends for all who come after it."""

    def __init__(self, create_each: CreateEach) -> None:
        self._create_each = create_each
        self._begin()

    def _begin(self) -> None:
        self._process = process.name()
        self._lock = threading.Lock()
        self._traffic = Traffic()
        self._waiting: list[tuple[CreateJobRequest, futures.Future[Outcome]]] = []

    def create(self, request: CreateJobRequest) -> Job:
        """The new job; it is on the scheduler's disk."""
        if self._process != process.name():
            # Forked: the threads that send are not in this process.
            self._begin()
        with self._lock:
            alone = goes_alone(request) or (not self._waiting and self._traffic.is_idle)
            if not alone:
                decided: futures.Future[Outcome] = futures.Future()
                self._waiting.append((request, decided))
                leads, window = len(self._waiting) == 1, self._traffic.window
        if alone:
            return job_or_raise(self._call([request])[0])
        if leads:
            self._lead(window)
        try:
            return job_or_raise(decided.result())
        except futures.CancelledError:
            # The thread that was to send it was interrupted.
            return job_or_raise(self._call([request])[0])

    def _lead(self, window: float) -> None:
        waiting: Sequence[tuple[CreateJobRequest, futures.Future[Outcome]]] = ()
        try:
            time.sleep(window)
            waiting = self._take()
            for batch in grouped(waiting):
                for (_, decided), outcome in zip(batch, self._call([request for request, _ in batch]), strict=True):
                    decided.set_result(outcome)
        finally:
            for _, decided in waiting or self._take():
                # Each that is not decided yet goes on by itself.
                decided.cancel()

    def _take(self) -> list[tuple[CreateJobRequest, futures.Future[Outcome]]]:
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken

    def _call(self, creates: Sequence[CreateJobRequest]) -> Sequence[Outcome]:
        with self._lock:
            self._traffic.under_way += 1
        try:
            return self._create_each(creates)
        finally:
            with self._lock:
                self._traffic.ended(len(creates))


def goes_alone(request: CreateJobRequest) -> bool:
    """Whether the answer may be a job of another submit: only a single create is answered with its spec."""
    return request.job.conflict_policy == CONFLICT_POLICY_RETURN_EXISTING


def grouped(waiting: Sequence[tuple[CreateJobRequest, T]]) -> Iterator[list[tuple[CreateJobRequest, T]]]:
    """Those who wait, in batches that the scheduler takes."""
    left = iter(waiting)
    for batch in requests.batches(request for request, _ in waiting):
        yield list(islice(left, len(batch)))


def job_or_raise(outcome: Outcome) -> Job:
    """The job, if there is one."""
    if isinstance(outcome, TowpathError):
        raise outcome
    return outcome
