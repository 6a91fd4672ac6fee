"""The result of a job to come, as a `concurrent.futures.Future`."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from towpath._sync.handle import JobHandle
from towpath.enums import JobState
from towpath.errors import TowpathError, WaitTimeout
from towpath.v1 import job_pb2


class JobFuture(Future[Any]):
    """A future whose work is a job; `handle` is that job, once it is created."""

    def __init__(self) -> None:
        super().__init__()
        self.handle: JobHandle | None = None
        # Held while a cancel is under way: what the watch hears of it meanwhile must come second.
        self._lock = threading.RLock()
        # Set once there is a handle, or never will be.
        self._decided = threading.Event()

    def cancel(self) -> bool:
        """Cancels the job. True where that was at once; one that runs is asked to stop, and its end comes later."""
        with self._lock:
            if self.done():
                return self.cancelled()
            if self.handle is not None and not self._cancelled_at_once(self.handle):
                return False
            if super().cancel():
                # Also wakes `concurrent.futures.wait` and `as_completed`.
                self.set_running_or_notify_cancel()
                self._decided.set()
            return self.cancelled()

    def job(self, timeout: float | None = None) -> JobHandle:
        """The job, as soon as it is created; raises what `result` would where it never is."""
        if not self._decided.wait(timeout):
            raise WaitTimeout(f"The job was not created within {timeout:g} s.")
        if self.handle is None:
            self.result(timeout=0)
        assert self.handle is not None
        return self.handle

    def created(self, handle: JobHandle) -> None:
        """Takes the job; cancels it where the future was cancelled before."""
        with self._lock:
            self.handle = handle
            self._decided.set()
            if self.cancelled():
                self._cancelled_at_once(handle)

    def settle(self, job: job_pb2.Job) -> None:
        """Takes over the outcome of the job, which is final."""
        assert self.handle is not None
        try:
            result = self.handle.result_of(job)
        except TowpathError as error:
            with self._lock:
                self.fail(error)
            return
        # It may have been cancelled meanwhile.
        with self._lock, suppress(InvalidStateError):
            self.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Gives up, unless it is done."""
        with suppress(InvalidStateError):
            self.set_exception(error)
        self._decided.set()

    @staticmethod
    def _cancelled_at_once(handle: JobHandle) -> bool:
        try:
            return handle.cancel().state is JobState.CANCELLED
        except TowpathError:
            return False
