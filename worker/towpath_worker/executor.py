"""Runs jobs in child processes: a warm pool of them, and for each job its end: outcome, stop, kill, crash.

Each is a fresh interpreter, started ahead of need, that imports what jobs want before it is given any. It is never a
fork of one that has done so: libraries with threads of their own (OpenMP, OpenBLAS, Arrow) may hang in a fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from towpath.v1 import worker_service_pb2
from towpath_worker import leftovers
from towpath_worker.job_log import Usage
from towpath_worker.limits import Limit
from towpath_worker.log import logger
from towpath_worker.outcomes import Key, Outcome, Reason, Stop, after_death, after_run, released
from towpath_worker.plan import Plan, attempt_name
from towpath_worker.process import ChildProcess, Died, Listener, Served, StartFailed
from towpath_worker.watch import Watch, Watched

log = logger("towpath.worker")

SPARE_CHILDREN = 2


class Job(Listener, Protocol):
    """What the executor tells of one job, beside its outcome."""

    def started(self) -> None:
        """A child process has taken the job."""

    def used(self, usage: Usage) -> None:
        """What the job has used, before its outcome."""


class Executor:
    """The child processes of one worker. At most `slots` jobs are given to it at once."""

    def __init__(self, plan: Plan, *, slots: int, max_tasks_per_child: int = 100) -> None:
        self._plan = plan
        self._slots = slots
        self._max_tasks = max_tasks_per_child
        self._idle: asyncio.LifoQueue[ChildProcess | StartFailed] = asyncio.LifoQueue()
        self._children: set[ChildProcess] = set()
        self._running: dict[Key, Stop] = {}
        self._starting = 0
        self._returning = 0
        self._waiting = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._watch = Watch(plan.limits)
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="towpath-spawn")

    async def start(self) -> Served:
        """Starts the first child process; what the handlers serve. StartFailed says why it cannot."""
        await asyncio.to_thread(leftovers.remove_scratches, self._plan.mark)
        child, served = await self._start_child()
        if served.all_inline:
            # It was only to say so.
            await self._retire(child)
            return served
        self._idle.put_nowait(child)
        self._top_up()
        return served

    async def run(self, lease: worker_service_pb2.Lease, worker_id: str, job: Job) -> Outcome | None:
        """Runs a leased job to its outcome. None: it was abandoned, and nothing is to be said of it."""
        key = (lease.job.job_id, lease.lease_token)
        stop = self._running[key] = Stop(key)
        try:
            return await self._run(lease, worker_id, job, stop)
        finally:
            del self._running[key]
            if stop.timer is not None:
                stop.timer.cancel()

    def stop(self, key: Key, grace: float, *, reason: Reason.ValueType, silent: bool = False) -> bool:
        """Asks a job to stop, and kills it after the grace in seconds. False where no such job runs.

        May come again: the earlier end counts, and the first reason.
        """
        stop = self._running.get(key)
        if stop is None:
            return False
        stop.reason = stop.reason or reason
        stop.silent = stop.silent or silent
        stop.asked.set()
        deadline = asyncio.get_running_loop().time() + grace
        stop.deadline = deadline if stop.deadline is None else min(stop.deadline, deadline)
        self._press(stop)
        return True

    async def close(self) -> None:
        """Kills all child processes."""
        self._closed = True
        for child in list(self._children):
            self._spawn_task(self._retire(child))
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._watch.close()
        self._spawner.shutdown(wait=False)

    async def _run(self, lease: worker_service_pb2.Lease, worker_id: str, job: Job, stop: Stop) -> Outcome | None:
        try:
            child = await self._take_unless(stop)
        except StartFailed as error:
            return released(stop, worker_service_pb2.RELEASE_REASON_UNABLE, str(error))
        if child is None:
            return released(stop, stop.reason or worker_service_pb2.RELEASE_REASON_STOPPED)
        stop.child = child
        self._top_up()
        job.started()
        work = self._plan.work / attempt_name(lease)
        watched = self._watch_over(child, work, stop)
        try:
            kind, message = await child.perform(lease, worker_id, job)
        except Died as died:
            self._watch.end(watched)
            job.used(Usage(watched.cpu or None, watched.peak_memory or None))
            await self._retire(child)
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
            return after_death(stop, died, self._plan.limits)
        self._watch.end(watched)
        job.used(Usage(child.cpu_seconds, watched.peak_memory or None))
        if stop.reason is not None or watched.broken is not None:
            await self._retire(child)
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        elif child.reusable_now and not self._is_worn(child) and not self._closed:
            self._idle.put_nowait(child)
        else:
            self._returning += 1
            self._spawn_task(self._give_back(child, work))
        return after_run(stop, kind, message)

    def _watch_over(self, child: ChildProcess, work: Path, stop: Stop) -> Watched:
        loop = asyncio.get_running_loop()

        def end(limit: Limit) -> None:
            stop.broken = stop.broken or limit
            self._spawn_task(child.kill())

        def on_break(limit: Limit) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(end, limit)

        folders = [one for one in (work, child.scratch) if one is not None]
        return self._watch.begin(child.pid, folders, on_break)

    def _press(self, stop: Stop) -> None:
        child = stop.child
        if child is None or stop.deadline is None:
            return
        if stop.timer is not None:
            stop.timer.cancel()
        loop = asyncio.get_running_loop()
        if stop.deadline <= loop.time():
            self._spawn_task(child.kill())
            return
        self._spawn_task(child.ask_to_stop())
        stop.timer = loop.call_at(stop.deadline, lambda: self._spawn_task(child.kill()))

    async def _take_unless(self, stop: Stop) -> ChildProcess | None:
        """A child process, or None where the wish to stop came before."""
        if (child := self._idle_now()) is not None:
            return child
        taking, asked = asyncio.ensure_future(self._take()), asyncio.ensure_future(stop.asked.wait())
        try:
            await asyncio.wait([taking, asked], return_when=asyncio.FIRST_COMPLETED)
            if stop.reason is None:
                return await taking
            if taking.done() and taking.exception() is None:
                self._idle.put_nowait(taking.result())
            return None
        finally:
            asked.cancel()
            taking.cancel()

    def _idle_now(self) -> ChildProcess | None:
        if self._waiting or self._idle.empty():
            return None
        found = self._idle.get_nowait()
        if isinstance(found, ChildProcess) and found.alive:
            return found
        if isinstance(found, StartFailed):
            self._idle.put_nowait(found)
        return None

    async def _take(self) -> ChildProcess:
        self._waiting += 1
        try:
            while True:
                self._top_up()
                found = await self._idle.get()
                if isinstance(found, StartFailed):
                    raise found
                if found.alive:
                    return found
        finally:
            self._waiting -= 1

    def _top_up(self) -> None:
        """Starts the children that jobs wait for, and one at a time those that later jobs will want."""
        if self._closed:
            return
        busy = sum(1 for one in self._running.values() if one.child is not None)
        spare = min(SPARE_CHILDREN, self._slots - busy)
        coming = self._idle.qsize() + self._starting + self._returning
        missing = self._waiting - coming
        if missing <= 0 and not self._starting and coming < spare:
            missing = 1
        for _ in range(missing):
            self._starting += 1
            self._spawn_task(self._add_child())

    async def _add_child(self) -> None:
        try:
            child, _ = await self._start_child()
        except StartFailed as error:
            if not self._closed:
                log.warning("child process did not start", reason=str(error))
            if self._waiting:
                self._idle.put_nowait(error)
            self._starting -= 1
            return
        self._starting -= 1
        self._idle.put_nowait(child)
        self._top_up()

    async def _start_child(self) -> tuple[ChildProcess, Served]:
        child = ChildProcess(f"{self._plan.mark}:{secrets.token_hex(8)}")
        self._children.add(child)
        try:
            served = await child.start(self._plan, self._spawner)
        except BaseException:
            await self._retire(child)
            raise
        return child, served

    async def _give_back(self, child: ChildProcess, work: Path) -> None:
        reusable = await child.reusable() and not self._closed
        worn = self._is_worn(child)
        self._returning -= 1
        # A worn one goes on until the next one is warm: a job must not wait for its imports.
        if reusable and (not worn or self._idle.empty()):
            self._idle.put_nowait(child)
            if worn and not self._starting:
                self._starting += 1
                self._spawn_task(self._add_child())
        else:
            await self._retire(child)
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        self._top_up()

    def _is_worn(self, child: ChildProcess) -> bool:
        return child.tasks >= self._max_tasks

    async def _retire(self, child: ChildProcess) -> None:
        await child.kill()
        child.close()
        self._children.discard(child)

    def _spawn_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
