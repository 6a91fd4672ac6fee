"""What the child processes of a worker are started with."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker import portable
from towpath_worker.limits import Limits
from towpath_worker.paths import Folders

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
# OpenMP threads that wait give their core away: beside other work xgboost took 8 s instead of 74 s.
SHARING = {"OMP_WAIT_POLICY": "PASSIVE"}
# Tokens, also as TOWPATH_WORKER_TOKEN, and the password of a store whose scheduler was started from here too.
NO_BUSINESS_OF_JOBS = ("TOWPATH_TOKEN", "TOWPATH_WORKER_", "TOWPATH_SERVER_")


@dataclass(frozen=True, slots=True)
class Plan:
    """What every child process of a worker is started with."""

    modules: Sequence[str]
    allow: Sequence[str]
    folders: Folders
    work: Path
    threads: int
    mark: str
    limits: Limits = Limits()
    path: Sequence[str] = field(default_factory=lambda: list(sys.path))

    def facts(self) -> dict[str, Any]:
        """As the child reads them."""
        return {
            "path": list(self.path),
            "modules": list(self.modules),
            "allow": list(self.allow),
            "folders": self.folders.facts(),
            "work": str(self.work),
            "threads": self.threads,
            "limits": self.limits.facts(),
        }


def attempt_name(lease: worker_service_pb2.Lease) -> str:
    """A file name for an attempt: whatever the scheduler calls its jobs, no path."""
    return f"{re.sub('[^A-Za-z0-9_-]', '_', lease.job.job_id)[:64]}-{lease.attempt}"


def job_type(job: job_pb2.Job) -> str:
    """What a job would run here, whatever else it calls itself."""
    which = job.WhichOneof("spec")
    return job.custom.type if which == "custom" else which or ""


def environment(plan: Plan, mark: str, scratch: Path | None = None) -> Mapping[str, str]:
    """A child's environment: its share of the cores, a folder for temporary files, and no secret of the worker's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NO_BUSINESS_OF_JOBS)}
    share = {name: str(plan.threads) for name in THREAD_VARIABLES}
    temporary = dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(scratch)) if scratch is not None else {}
    return {**share, **SHARING, **inherited, **temporary, portable.MARK: mark}
