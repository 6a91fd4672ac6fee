"""Jobs that do not listen, inside a C call that holds the interpreter's lock: how soon they are gone, all of them."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from support import processes, soak
from towpath import Client, JobHandle
from towpath.job_errors import JobCancelled

GRACE = 0.2
ALLOWED = 1.0
JOB_TYPES = ("--handlers", "support.job_types", "--allow", "test.native", "--slots", "1")


def until_native(job: JobHandle) -> None:
    for event in job:
        assert not event.is_final, event
        if event.progress is not None and event.progress.phase == "native":
            return


def cancelled(job: JobHandle) -> float:
    """How long it takes from the cancel to the end."""
    begun = time.monotonic()
    job.cancel()
    try:
        job.result(timeout=60, progress=False)
    except JobCancelled:
        return time.monotonic() - begun
    raise AssertionError("it was not cancelled")


def test_cancels_reach_c(tmp_path: Path) -> None:
    cancels = soak.scale("TOWPATH_SOAK_CANCELS")
    with soak.row(f"a job inside C++ is gone within its grace and {ALLOWED:g} s of a cancel", "cancels") as row:
        took, met = [], dict[int, psutil.Process]()
        with (
            processes.scheduler(tmp_path) as at,
            processes.worker(at, tmp_path / "worker", *JOB_TYPES) as process,
            Client(at.address, at.token) as client,
        ):
            worker = psutil.Process(process.pid)
            for _ in range(cancels):
                job = client.submit("test.native", {"seconds": 600}, cancel_grace=GRACE)
                until_native(job)
                met |= {child.pid: child for child in worker.children(recursive=True)}
                took.append(cancelled(job))
        left = [child for child in met.values() if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        row.trials = cancels
        row.violations = sum(one > GRACE + ALLOWED for one in took) + len(left)
        row.note = f"grace {GRACE:g} s; at most {max(took):.2f} s; {len(met)} processes met, {len(left)} left behind"
