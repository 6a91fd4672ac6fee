"""How the run of a job in a child process ended, as the scheduler is told."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker import failures, limits
from towpath_worker.frames import Kind
from towpath_worker.limits import Limit, Limits

if TYPE_CHECKING:
    from towpath_worker.process import ChildProcess, Died

Key = tuple[str, str]
Outcome = worker_service_pb2.Succeeded | worker_service_pb2.Failed | worker_service_pb2.Released
Reason = worker_service_pb2.ReleaseReason

OUT_OF_CPU_TIME = -getattr(signal, "SIGXCPU", 0)


class Stop:
    """The wish that a job stops, and how urgent it is."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.child: ChildProcess | None = None
        self.reason: Reason.ValueType | None = None
        self.silent = False
        #: The limit that the job broke: it is killed for that.
        self.broken: Limit | None = None
        self.deadline: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.asked = asyncio.Event()


def after_run(stop: Stop, kind: Kind, message: bytes) -> Outcome | None:
    """The outcome of a job whose handler came to its end."""
    if stop.silent:
        return None
    if kind is Kind.SUCCEEDED:
        return worker_service_pb2.Succeeded(result=job_pb2.JobResult.FromString(message))
    # After the wish to stop, an error is most likely its consequence.
    if stop.reason is not None:
        return released(stop, stop.reason)
    if kind is Kind.FAILED:
        return worker_service_pb2.Failed(failure=job_pb2.Failure.FromString(message))
    return worker_service_pb2.Failed(failure=failures.unasked_stop())


def after_death(stop: Stop, died: Died, bounds: Limits) -> Outcome | None:
    """The outcome of a job whose process died."""
    if stop.reason is not None:
        return released(stop, stop.reason)
    broken = stop.broken
    if broken is None and bounds.cpu_time is not None and died.code == OUT_OF_CPU_TIME:
        broken = Limit.CPU_TIME
    if broken is not None:
        failure = limits.failure(broken, bounds)
    else:
        failure = job_pb2.Failure(
            cause=job_pb2.FAILURE_CAUSE_PROCESS_DIED, type=died.type, message=str(died), retryable=True
        )
    failure.traceback = died.tail
    return worker_service_pb2.Failed(failure=failure)


def released(stop: Stop, reason: Reason.ValueType, message: str = "") -> worker_service_pb2.Released | None:
    """The outcome of a job that this worker gives back."""
    return None if stop.silent else worker_service_pb2.Released(reason=reason, message=message)
