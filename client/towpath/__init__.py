"""Towpath: a scheduler from which workers pull. This is its client: submit jobs, train, predict.

from towpath import Client

with Client() as client:
    trained = client.train("flights.parquet", "late").result()
    print(trained.metrics)
    print(client.predict(trained.model.ref, "today.parquet").result().to_pandas())
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towpath._async.client import AsyncClient
    from towpath._async.handle import AsyncJobHandle
    from towpath._sync.handle import JobHandle
    from towpath.client import Client
    from towpath.display import follow
    from towpath.enums import (
        AttemptOutcome,
        ConflictPolicy,
        FailureCause,
        JobState,
        LogStream,
        Priority,
        Role,
        TaskType,
        WorkerShare,
        WorkerState,
    )
    from towpath.errors import DedupeConflict, QuotaExceeded, TowpathError, WaitTimeout
    from towpath.executor import JobExecutor
    from towpath.fleet import Model, Queue, Quota, QuotaUse, ServerInfo, ServerStats, Token, Worker
    from towpath.futures import JobFuture
    from towpath.job_errors import JobCancelled, JobError, JobFailed, JobTimedOut
    from towpath.results import ModelList, Prediction, ResultRef, TrainResult
    from towpath.stats import JobStats
    from towpath.types import (
        Attempt,
        Explanation,
        Failure,
        Job,
        JobEvent,
        LogChunk,
        Progress,
        Requirements,
        RetryPolicy,
    )

__all__ = [
    "AsyncClient",
    "AsyncJobHandle",
    "Attempt",
    "AttemptOutcome",
    "Client",
    "ConflictPolicy",
    "DedupeConflict",
    "Explanation",
    "Failure",
    "FailureCause",
    "Job",
    "JobCancelled",
    "JobError",
    "JobEvent",
    "JobExecutor",
    "JobFailed",
    "JobFuture",
    "JobHandle",
    "JobState",
    "JobStats",
    "JobTimedOut",
    "LogChunk",
    "LogStream",
    "Model",
    "ModelList",
    "Prediction",
    "Priority",
    "Progress",
    "Queue",
    "Quota",
    "QuotaExceeded",
    "QuotaUse",
    "Requirements",
    "ResultRef",
    "RetryPolicy",
    "Role",
    "ServerInfo",
    "ServerStats",
    "TaskType",
    "Token",
    "TowpathError",
    "TrainResult",
    "WaitTimeout",
    "Worker",
    "WorkerShare",
    "WorkerState",
    "follow",
]

# gRPC alone takes a tenth of a second to import: nothing is, before it is asked for.
_HOMES = {
    "towpath._async.client": ("AsyncClient",),
    "towpath._async.handle": ("AsyncJobHandle",),
    "towpath._sync.handle": ("JobHandle",),
    "towpath.client": ("Client",),
    "towpath.display": ("follow",),
    "towpath.enums": (
        "AttemptOutcome",
        "ConflictPolicy",
        "FailureCause",
        "JobState",
        "LogStream",
        "Priority",
        "Role",
        "TaskType",
        "WorkerShare",
        "WorkerState",
    ),
    "towpath.errors": ("DedupeConflict", "QuotaExceeded", "TowpathError", "WaitTimeout"),
    "towpath.job_errors": ("JobCancelled", "JobError", "JobFailed", "JobTimedOut"),
    "towpath.executor": ("JobExecutor",),
    "towpath.fleet": ("Model", "Queue", "Quota", "QuotaUse", "ServerInfo", "ServerStats", "Token", "Worker"),
    "towpath.futures": ("JobFuture",),
    "towpath.results": ("ModelList", "Prediction", "ResultRef", "TrainResult"),
    "towpath.stats": ("JobStats",),
    "towpath.types": (
        "Attempt",
        "Explanation",
        "Failure",
        "Job",
        "JobEvent",
        "LogChunk",
        "Progress",
        "Requirements",
        "RetryPolicy",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("towpath")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
