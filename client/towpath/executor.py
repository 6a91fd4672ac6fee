"""A `concurrent.futures.Executor` whose work are jobs: created in batches, heard of by one stream for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent import futures
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias
from uuid import uuid4

from towpath import requests
from towpath._sync.batches import create_each
from towpath._sync.completions import Completions
from towpath._sync.connection import Connection
from towpath._sync.handle import JobHandle
from towpath._sync.mapping import GROUP_LABEL
from towpath.binding import bind
from towpath.errors import TowpathError
from towpath.futures import JobFuture
from towpath.options import JobOptions
from towpath.v1 import job_pb2, job_service_pb2

Submission: TypeAlias = tuple[job_service_pb2.CreateJobRequest, JobFuture]


class JobExecutor(futures.Executor):
    """Made by `Client.get_executor`; it has a connection and two threads of its own until it is shut down."""

    def __init__(self, connection: Connection, job_type: str | None, options: JobOptions) -> None:
        self._connection = connection
        self._job_type = job_type
        self._group = {GROUP_LABEL: str(uuid4())}
        self._options: JobOptions = {**options, "labels": {**(options.get("labels") or {}), **self._group}}
        self._inbox: SimpleQueue[Submission | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._open: set[JobFuture] = set()
        self._by_job: dict[str, JobFuture] = {}
        # Jobs that ended while the answer to their creation was on its way.
        self._early: dict[str, job_pb2.Job] = {}
        self._creating = False
        # Set once the end of no job is missed, or all is lost.
        self._watched = threading.Event()
        self._started = False
        self._shut = False

    def submit(self, fn: Callable[..., Any] | str | None, /, *args: Any, **kwargs: Any) -> JobFuture:
        """A job for a job type, a function decorated with `@handler`, or None for this executor's own job type.

        A function's positional arguments get their names from its signature, without the context; a job type takes
        keyword arguments, or one dict. Raises InvalidArgument at once where they do not fit.
        """
        job_type, params = bind(fn, self._job_type, args, kwargs)
        request = requests.create(requests.job_of(job_type, params), self._options)
        future = JobFuture()
        with self._lock:
            if self._shut:
                raise RuntimeError("This executor is shut down. Get a new one.")
            self._open.add(future)
            self._inbox.put((request, future))
            if not self._started:
                self._start()
        future.add_done_callback(self._forget)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more work; cancels what is open where told so; waits for the rest unless told not to."""
        with self._lock:
            self._shut = True
            left = list(self._open)
        for future in left if cancel_futures else ():
            future.cancel()
        if wait:
            futures.wait(left)
        self._close_when_done()

    def _start(self) -> None:
        self._started = True
        for work in (self._create, self._collect):
            threading.Thread(target=work, name=f"towpath-executor{work.__name__}", daemon=True).start()

    def _forget(self, future: futures.Future[Any]) -> None:
        assert isinstance(future, JobFuture)
        with self._lock:
            self._open.discard(future)
            if future.handle is not None:
                self._by_job.pop(future.handle.job_id, None)
        self._close_when_done()

    def _close_when_done(self) -> None:
        with self._lock:
            closing = self._shut and not self._open
        if closing:
            self._inbox.put(None)
            self._connection.close()

    def _create(self) -> None:
        """Creates all jobs that were submitted since it last looked, in one call."""
        self._watched.wait()
        while (first := self._inbox.get()) is not None:
            waiting = {request.request_id: (request, future) for request, future in (first, *self._more())}
            live = (request for request, future in waiting.values() if not future.cancelled())
            for batch in requests.batches(live):
                self._create_batch([waiting[request.request_id] for request in batch])

    def _more(self) -> Iterable[Submission]:
        for _ in range(requests.MAX_BATCH - 1):
            try:
                item = self._inbox.get_nowait()
            except Empty:
                return
            if item is None:
                # The end is for the outer loop.
                self._inbox.put(None)
                return
            yield item

    def _create_batch(self, batch: list[Submission]) -> None:
        with self._lock:
            self._creating = True
        created: list[tuple[job_pb2.Job, JobFuture]] = []
        for outcome, (_, future) in zip(create_each(self._connection, [one for one, _ in batch]), batch, strict=True):
            if isinstance(outcome, TowpathError):
                future.fail(outcome)
                continue
            future.created(JobHandle(self._connection, outcome))
            if not future.cancelled():
                created.append((outcome, future))
        with self._lock:
            self._by_job.update({job.job_id: future for job, future in created})
            ended = [self._early[job.job_id] for job, _ in created if job.job_id in self._early]
            self._early.clear()
            self._creating = False
        for job in ended:
            self._settle(job)

    def _collect(self) -> None:
        """Settles futures as their jobs end."""
        try:
            for jobs in Completions(self._connection, self._group):
                self._watched.set()
                for job in jobs:
                    self._settle(job)
        except TowpathError as error:
            with self._lock:
                self._shut = True
                left = list(self._open)
            for future in left:
                future.fail(error)
            self._watched.set()

    def _settle(self, job: job_pb2.Job) -> None:
        with self._lock:
            future = self._by_job.get(job.job_id)
            if future is None and self._creating:
                self._early[job.job_id] = job
        if future is not None:
            future.settle(job)
