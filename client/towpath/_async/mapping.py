"""One job for each of many params, with bounded memory: while results are taken, the next jobs are created."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any
from uuid import uuid4

from towpath import job_errors, requests
from towpath._async.batches import cancel_all, create_all
from towpath._async.completions import AsyncCompletions
from towpath._async.connection import AsyncConnection
from towpath._async.handle import AsyncJobHandle
from towpath.background import AsyncBackground, AsyncSignal
from towpath.errors import DeadlineExceeded, InvalidArgument, Unavailable
from towpath.job_errors import JobError
from towpath.options import JobOptions
from towpath.v1 import job_pb2, job_service_pb2

# By this label a map's own jobs are watched.
GROUP_LABEL = "towpath.group"
# After so many seconds without news, the scheduler is asked for the job that is under way the longest.
LONGEST_SILENCE = 30.0


def map_jobs(
    connection: AsyncConnection,
    job_type: str,
    params: Iterable[Mapping[str, Any]],
    options: JobOptions,
    *,
    window: int,
    ordered: bool,
    return_exceptions: bool,
) -> AsyncIterator[Any]:
    """The results of the jobs, at most `window` of which are created and not yet taken."""
    if window < 1:
        raise InvalidArgument("window must be at least 1.")
    group = {GROUP_LABEL: str(uuid4())}
    labelled: JobOptions = {**options, "labels": {**(options.get("labels") or {}), **group}}
    creates = requests.series(job_type, params, labelled)
    return AsyncFlow(connection, creates, group, window, ordered=ordered).results(return_exceptions=return_exceptions)


@dataclass(eq=False, slots=True)
class Slot:
    """A place in the window: the job that has it, once it is over."""

    create: job_service_pb2.CreateJobRequest
    job: job_pb2.Job | None = None


class AsyncFlow:
    """The jobs of a map. They are created, and heard of, beside the one who takes their results."""

    def __init__(
        self,
        connection: AsyncConnection,
        creates: Iterator[job_service_pb2.CreateJobRequest],
        group: dict[str, str],
        size: int,
        *,
        ordered: bool,
    ) -> None:
        self._connection = connection
        self._creates = creates
        self._size = size
        self._ordered = ordered
        self._completions = AsyncCompletions(connection, group)
        self._signal = AsyncSignal()
        self._lock = threading.Lock()
        self._taken_up = 0
        # The slots whose results are taken next: all in their order, or those that are over.
        self._line: deque[Slot] = deque()
        self._under_way: dict[str, Slot] = {}
        # Jobs that ended while the answer to their creation was on its way.
        self._early: dict[str, job_pb2.Job] = {}
        self._creating = False
        self._creation: AsyncBackground | None = None
        self._stands = False
        self._failure: Exception | None = None

    async def results(self, *, return_exceptions: bool) -> AsyncGenerator[Any, None]:
        """Each result, or failure."""
        watching = AsyncBackground(self._watch)
        try:
            while not self._stands:
                await self._news()
            while self._fill():
                if self._line and (job := self._line[0].job) is not None:
                    slot = self._line.popleft()
                    self._taken_up -= 1
                    try:
                        yield await self._result(job, slot.create)
                    except JobError as error:
                        if not return_exceptions:
                            raise
                        yield error
                else:
                    await self._news()
        finally:
            self._completions.stop()
            await watching.stop()
            if self._creation is not None:
                await self._creation.join()
            await cancel_all(self._connection, list(self._under_way), reason="its map was stopped")

    def _fill(self) -> bool:
        """Has jobs created once half of the window is free, so that they travel in batches; whether any is there."""
        free = self._size - self._taken_up
        if not self._creating and free * 2 >= self._size and (creates := list(islice(self._creates, free))):
            slots = [Slot(create) for create in creates]
            self._taken_up += len(slots)
            if self._ordered:
                self._line.extend(slots)
            self._creating = True
            self._creation = AsyncBackground(partial(self._create, slots))
        return self._taken_up > 0

    async def _create(self, slots: list[Slot]) -> None:
        waiting = iter(slots)
        try:
            async for jobs in create_all(self._connection, [slot.create for slot in slots]):
                with self._lock:
                    for job, slot in zip(jobs, waiting, strict=False):
                        self._under_way[job.job_id] = slot
                        if (end := self._early.pop(job.job_id, None)) is not None:
                            self._end(end)
                self._signal.set()
        except Exception as error:  # noqa: BLE001 - told to the one who takes results
            self._failure = error
        finally:
            with self._lock:
                self._creating = False
                self._early.clear()
            self._signal.set()

    async def _watch(self) -> None:
        try:
            async for jobs in self._completions:
                with self._lock:
                    self._stands = True
                    for job in jobs:
                        self._end(job)
                self._signal.set()
        except Exception as error:  # noqa: BLE001 - told to the one who takes results
            self._failure = error
            self._signal.set()

    def _end(self, job: job_pb2.Job) -> None:
        slot = self._under_way.pop(job.job_id, None)
        if slot is not None:
            slot.job = job
            if not self._ordered:
                self._line.append(slot)
        elif self._creating:
            self._early[job.job_id] = job

    async def _news(self) -> None:
        """Waits until something has happened."""
        if self._failure is not None:
            raise self._failure
        if await self._signal.wait(LONGEST_SILENCE):
            return
        with self._lock:
            eldest = next(iter(self._under_way), None)
        if eldest is not None:
            # It may have been deleted, of which no watch tells.
            request = job_service_pb2.GetJobRequest(job_id=eldest)
            try:
                job = (await self._connection.call(self._connection.stubs.jobs.GetJob, request)).job
            except (Unavailable, DeadlineExceeded):
                return
            if job_errors.is_final(job):
                with self._lock:
                    self._end(job)

    async def _result(self, job: job_pb2.Job, create: job_service_pb2.CreateJobRequest) -> Any:
        if job.state != job_pb2.JOB_STATE_SUCCEEDED:
            job = requests.with_spec(job, create.job)
        elif not job.HasField("result"):
            # Too large to be told of.
            return await AsyncJobHandle(self._connection, job).result(progress=False)
        return job_errors.outcome(job)
