"""One job for each of many params, with bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any
from uuid import uuid4

from towpath import requests
from towpath._async.batches import create_all
from towpath._async.completions import completions
from towpath._async.connection import AsyncConnection
from towpath._async.handle import AsyncJobHandle
from towpath.errors import InvalidArgument, TowpathError
from towpath.job_errors import JobError
from towpath.options import JobOptions
from towpath.v1 import job_pb2

# By this label a map's own jobs are watched.
GROUP_LABEL = "towpath.group"


def map_jobs(
    connection: AsyncConnection,
    jobs: Iterable[job_pb2.Job],
    options: JobOptions,
    *,
    window: int,
    ordered: bool,
    return_exceptions: bool,
) -> AsyncIterator[Any]:
    """The results of the jobs, at most `window` of which are created and not yet taken."""
    if window < 1:
        raise InvalidArgument("window must be at least 1.")
    group = str(uuid4())
    labelled: JobOptions = {**options, "labels": {**(options.get("labels") or {}), GROUP_LABEL: group}}
    pending = AsyncWindow(connection, iter(jobs), labelled, window)
    if ordered:
        return in_order(pending, return_exceptions=return_exceptions)
    return as_completed(pending, {GROUP_LABEL: group}, return_exceptions=return_exceptions)


class AsyncWindow:
    """The jobs that are under way, by id in the order of their creation."""

    def __init__(
        self, connection: AsyncConnection, jobs: Iterator[job_pb2.Job], options: JobOptions, size: int
    ) -> None:
        self.connection = connection
        self.handles: dict[str, AsyncJobHandle] = {}
        self._jobs = jobs
        self._options = options
        self._size = size

    async def fill(self) -> bool:
        """Creates jobs once half of the window is free, so that they travel in batches; whether any is under way."""
        free = self._size - len(self.handles)
        if free * 2 >= self._size:
            creates = [requests.create(job, self._options) for job in islice(self._jobs, free)]
            for created in await create_all(self.connection, creates):
                self.handles[created.job_id] = AsyncJobHandle(self.connection, created)
        return bool(self.handles)

    async def take(self, handle: AsyncJobHandle, *, return_exceptions: bool) -> Any:
        """The result of a job, which leaves the window."""
        try:
            result = await handle.result(progress=False)
        except JobError as error:
            del self.handles[handle.job_id]
            if not return_exceptions:
                raise
            return error
        del self.handles[handle.job_id]
        return result

    async def cancel(self) -> None:
        """Cancels what is under way."""
        for handle in self.handles.values():
            try:
                await handle.cancel(reason="its map was stopped")
            except TowpathError:
                # Stopping is best effort: the caller's own error is the one to show.
                return


async def in_order(pending: AsyncWindow, *, return_exceptions: bool) -> AsyncGenerator[Any, None]:
    """Results in the order of the params."""
    try:
        while await pending.fill():
            first = next(iter(pending.handles.values()))
            yield await pending.take(first, return_exceptions=return_exceptions)
    finally:
        await pending.cancel()


async def as_completed(
    pending: AsyncWindow, labels: dict[str, str], *, return_exceptions: bool
) -> AsyncGenerator[Any, None]:
    """Results as they come."""
    ended = completions(pending.connection, labels)
    try:
        while await pending.fill():
            async for job_id in ended:
                if handle := pending.handles.get(job_id):
                    yield await pending.take(handle, return_exceptions=return_exceptions)
                    break
    finally:
        await ended.aclose()
        await pending.cancel()
