"""Runs tiny jobs in the worker's own process: coroutines in its event loop, functions in its threads, by the batch.

Nothing here can be killed. A job that is asked to stop keeps its slot until its handler returns, and only then is
anything said of it: nobody else may run it while it still runs here.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker import failures, portable, registry, results
from towpath_worker.attempt import Attempt
from towpath_worker.errors import Cancelled
from towpath_worker.handler import Context, registered
from towpath_worker.inline_job import InlineJob
from towpath_worker.job_log import JobLog
from towpath_worker.outbox import Outbox
from towpath_worker.outcomes import Outcome, Reason
from towpath_worker.plan import Plan, attempt_name
from towpath_worker.reports import Key, Report
from towpath_worker.threads import Threads

# Seconds: how often it is looked after what runs, and how long a job runs until its start is told.
LOOK_EVERY = 0.02
LONG = 1.0
HANDLER = job_pb2.FAILURE_CAUSE_HANDLER


Result = tuple[InlineJob, Report | None]


class Inline:
    """The jobs of a worker that run in its own process. For one event loop."""

    def __init__(
        self, job_types: Iterable[str], plan: Plan, outbox: Outbox, on_free: Callable[[], None], job_log: JobLog
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._handlers = {name: registered[name] for name in job_types}
        self._coroutines = {name for name, one in self._handlers.items() if inspect.iscoroutinefunction(one)}
        self._plan = plan
        self._outbox = outbox
        self._on_free = on_free
        self._job_log = job_log
        self._worker_id = ""
        self._held: dict[Key, InlineJob] = {}
        self._tokens: dict[str, str] = {}
        self._finished: list[Result] = []
        self._threads: Threads[InlineJob, Result] = Threads(self._perform, self._deliver)
        self._looking = False
        self._closed = False
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def serves(self, lease: worker_service_pb2.Lease) -> bool:
        """Whether a job is to run here."""
        return bool(self._handlers) and lease.job.custom.type in self._handlers

    def holds(self, key: Key) -> bool:
        """Whether this lease's job runs here."""
        return key in self._held

    def others(self, key: Key) -> list[Key]:
        """The leases of the same job, this one left out, that run here."""
        known = self._tokens.get(key[0], key[1])
        return [] if known == key[1] else [(key[0], known)]

    def begin(self, leases: Iterable[worker_service_pb2.Lease], worker_id: str) -> None:
        """Runs jobs to their outcomes, which go to the outbox."""
        self._worker_id = worker_id
        now = time.monotonic()
        jobs = {job.key: job for job in (InlineJob(self, lease, now) for lease in leases)}
        self._outbox.begin(jobs)
        self._held |= jobs
        self._tokens |= jobs.keys()
        for_threads = []
        for job in jobs.values():
            if job.lease.job.custom.type in self._coroutines:
                job.task = self._loop.create_task(self._run(job))
            else:
                for_threads.append(job)
        if for_threads:
            self._threads.give(for_threads)
        if not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_EVERY, self._look)

    def stop(self, key: Key, reason: Reason.ValueType, *, silent: bool = False) -> bool:
        """Asks a job to stop. False where no such job runs here."""
        job = self._held.get(key)
        if job is None:
            return False
        is_new = job.reason is None
        job.reason = job.reason or reason
        if silent and not job.silent:
            job.silent = True
            self.attempt_of(job).mute()
        if job.task is not None:
            if is_new:
                job.task.cancel()
            never_began = not job.begun
        else:
            never_began = self._threads.take_back(job)
        if never_began:
            self._deliver([(job, None)])
        return True

    def keys(self) -> set[Key]:
        """The leases of what runs."""
        return set(self._held)

    async def emptied(self) -> None:
        """Waits until nothing runs."""
        while self._held:
            self._empty.clear()
            await self._empty.wait()

    def close(self) -> None:
        """Says nothing more, of nothing."""
        self._closed = True
        self._threads.close()

    # What jobs need of it.

    def later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Calls something in so many seconds."""
        self._loop.call_later(seconds, callback)

    def has(self, job: InlineJob) -> bool:
        """Whether the job still runs."""
        return self._held.get(job.key) is job

    def attempt_of(self, job: InlineJob) -> Attempt:
        """Where its reports go; its start is told first."""
        if job.attempt is None:
            job.attempt = Attempt(job.lease, self._outbox)
            if not job.silent:
                job.attempt.tell_started()
                self._job_log.started(job.lease)
        return job.attempt

    def post(self, callback: Callable[[], object]) -> None:
        """Calls something in the event loop, from any thread."""
        if not self._closed:
            self._loop.call_soon_threadsafe(callback)

    # In a thread, or in the event loop.

    def _perform(self, job: InlineJob) -> Result:
        """A function's whole run."""
        if job.reason is not None:
            return job, None
        job.begun = time.monotonic()
        try:
            returned = registry.call(job.lease.job.custom, self._context(job))
            if inspect.isawaitable(returned):
                returned = asyncio.run(_awaited(returned))
            return job, self._succeeded(job, returned)
        except BaseException as error:  # noqa: BLE001
            return job, _ended(job, error)
        finally:
            job.tidy()

    async def _run(self, job: InlineJob) -> None:
        """A coroutine's whole run."""
        job.begun = time.monotonic()
        try:
            returned = await registry.call(job.lease.job.custom, self._context(job))
            report: Report | None = self._succeeded(job, returned)
        except asyncio.CancelledError as error:
            report = None if job.reason is not None else _ended(job, error)
        except BaseException as error:  # noqa: BLE001
            report = _ended(job, error)
        finally:
            job.tidy()
        if not self._finished:
            self._loop.call_soon(self._deliver_finished)
        self._finished.append((job, report))

    def _context(self, job: InlineJob) -> Context:
        wanted = job.lease.job
        return Context(
            job_id=job.key[0],
            attempt=job.lease.attempt,
            workdir=lambda: self._make_folder(job),
            folders=self._plan.folders,
            worker_id=self._worker_id,
            tenant=wanted.tenant,
            user=wanted.user,
            threads=self._plan.threads,
            lease_token=job.key[1],
            teller=job,
            stop=job,
        )

    def _make_folder(self, job: InlineJob) -> Path:
        job.folder = portable.private_folder(self._plan.work / attempt_name(job.lease))
        return job.folder

    def _succeeded(self, job: InlineJob, returned: object) -> Report:
        report = Report(job_id=job.key[0], lease_token=job.key[1])
        results.fill(report.succeeded.result.custom.value, returned)
        if report.ByteSize() > results.MAX_RESULT_BYTES:
            folder, name = self._plan.folders.results, attempt_name(job.lease)
            small = results.small_enough(report.succeeded.result, folder, self._worker_id, name)
            report.succeeded.result.CopyFrom(small)
        return report

    # In the event loop.

    def _deliver_finished(self) -> None:
        finished, self._finished = self._finished, []
        self._deliver(finished)

    def _deliver(self, finished: list[Result]) -> None:
        if self._closed:
            return
        reports, now = [], time.monotonic()
        for job, report in finished:
            if self._held.get(job.key) is not job:
                continue
            job.tell_logs()
            job.tell_progress()
            del self._held[job.key]
            if self._tokens.get(job.key[0]) == job.key[1]:
                del self._tokens[job.key[0]]
            outcome = _outcome(job, report)
            if job.begun:
                self._job_log.ended(job.lease, None if job.silent else told(outcome), now - job.begun)
            if job.silent:
                continue
            if job.attempt is None:
                reports.append(outcome)
            else:
                job.attempt.finish(told(outcome))
        self._outbox.add_all(reports)
        if not self._held:
            self._empty.set()
        self._on_free()

    def _look(self) -> None:
        self._looking = bool(self._held) and not self._closed
        if not self._looking:
            return
        self._threads.look()
        long_ago = time.monotonic() - LONG
        for job in self._held.values():
            if job.taken > long_ago:
                break
            if 0 < job.begun < long_ago and job.attempt is None:
                self.attempt_of(job)
        self._loop.call_later(LOOK_EVERY, self._look)


def told(report: Report) -> Outcome:
    """What a report of an outcome says."""
    outcome: Outcome = getattr(report, str(report.WhichOneof("event")))
    return outcome


async def _awaited(work: Awaitable[object]) -> object:
    return await work


def _ended(job: InlineJob, error: BaseException) -> Report | None:
    if isinstance(error, Cancelled):
        return None
    report = Report(job_id=job.key[0], lease_token=job.key[1])
    try:
        described = failures.failure(error)
    except Exception:  # noqa: BLE001 - an error of the handler's own making: its job ends all the same
        described = job_pb2.Failure(cause=HANDLER, type=type(error).__name__, message="it cannot be described")
    report.failed.failure.CopyFrom(described)
    return report


def _outcome(job: InlineJob, report: Report | None) -> Report:
    """What is told of a job that is over. After the wish to stop, an error is most likely its consequence."""
    if report is not None and (job.reason is None or report.HasField("succeeded")):
        return report
    report = Report(job_id=job.key[0], lease_token=job.key[1])
    if job.reason is not None:
        report.released.reason = job.reason
    else:
        report.failed.failure.CopyFrom(failures.unasked_stop())
    return report
