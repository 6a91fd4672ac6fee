"""One job that runs in the worker's own process."""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from towpath.v1 import job_service_pb2, worker_service_pb2
from towpath_worker import results
from towpath_worker.attempt import Attempt
from towpath_worker.handler import ProgressUpdate
from towpath_worker.outcomes import Reason
from towpath_worker.reports import Key
from towpath_worker.teller import INTERVAL, to_proto

LOG = job_service_pb2.LOG_STREAM_LOG


class Owner(Protocol):
    """Whom a job tells what it says. All but `post` are for the event loop."""

    def post(self, callback: Callable[[], object]) -> None:
        """Calls something in the event loop, from any thread."""

    def later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Calls something in so many seconds."""

    def has(self, job: InlineJob) -> bool:
        """Whether the job still runs."""

    def attempt_of(self, job: InlineJob) -> Attempt:
        """Where its reports go; its start is told first."""


class InlineJob:
    """One job that runs here. To its Context it is the wish to stop, and where its words go."""

    __slots__ = (
        "attempt",
        "begun",
        "folder",
        "key",
        "lease",
        "logs",
        "newest",
        "owner",
        "reason",
        "silent",
        "taken",
        "task",
        "telling",
    )

    def __init__(self, owner: Owner, lease: worker_service_pb2.Lease, taken: float) -> None:
        self.owner = owner
        self.lease = lease
        self.key: Key = (lease.job.job_id, lease.lease_token)
        self.taken = taken
        self.begun = 0.0
        self.reason: Reason.ValueType | None = None
        self.silent = False
        self.task: asyncio.Task[None] | None = None
        self.attempt: Attempt | None = None
        self.newest: ProgressUpdate | None = None
        self.telling = False
        self.logs: deque[bytes] = deque()
        self.folder: Path | None = None

    def is_set(self) -> bool:
        """Whether it was asked to stop."""
        return self.reason is not None

    def progress(self, update: ProgressUpdate) -> None:
        """Tells the newest, ten times a second at most."""
        self.newest = update
        if not self.telling:
            self.telling = True
            self.owner.post(lambda: self.owner.later(INTERVAL if self.attempt else 0.0, self.tell_progress))

    def log(self, text: str) -> None:
        """Tells a piece of the job's own log."""
        self.logs.append(results.clean(text).encode())
        self.owner.post(self.tell_logs)

    def tidy(self) -> None:
        """Removes its folder, if it asked for one."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def tell_logs(self) -> None:
        """Tells what it wrote, in the event loop: before its outcome, or never."""
        while self.logs and self.owner.has(self):
            self.owner.attempt_of(self).output(LOG, self.logs.popleft())

    def tell_progress(self) -> None:
        """Tells the newest now, in the event loop."""
        # In this order: what comes in between asks for another turn.
        self.telling = False
        update, self.newest = self.newest, None
        if update is not None and self.owner.has(self):
            self.owner.attempt_of(self).progress(to_proto(update))
