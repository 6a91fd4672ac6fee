"""What the child processes of a worker are started with."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from towpath.v1 import worker_service_pb2
from towpath_worker import portable
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What every child process of a worker is started with."""

    modules: Sequence[str]
    allow: Sequence[str]
    folders: Folders
    work: Path
    threads: int
    mark: str
    path: Sequence[str] = field(default_factory=lambda: list(sys.path))

    def facts(self) -> dict[str, Any]:
        """As the child reads them."""
        return {
            "path": list(self.path),
            "modules": list(self.modules),
            "allow": list(self.allow),
            "data": [str(one) for one in self.folders.data],
            "models": str(self.folders.models),
            "results": str(self.folders.results),
            "work": str(self.work),
            "threads": self.threads,
        }


def attempt_name(lease: worker_service_pb2.Lease) -> str:
    """A file name for an attempt: whatever the scheduler calls its jobs, no path."""
    return f"{re.sub('[^A-Za-z0-9_-]', '_', lease.job.job_id)[:64]}-{lease.attempt}"


def environment(plan: Plan, mark: str) -> Mapping[str, str]:
    """A child's environment: its share of the cores, and no token: a job has no business with it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_TOKEN")}
    share = {name: str(plan.threads) for name in THREAD_VARIABLES}
    return {**share, **SHARING, **inherited, portable.MARK: mark}
