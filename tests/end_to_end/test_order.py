"""Strict priority and FIFO, with a real scheduler and a real worker."""

from __future__ import annotations

from pathlib import Path

from support import processes
from towpath import Client

PRIORITIES = ("low", "normal", "critical", "high", "normal", "low", "critical", "high")


def test_jobs_run_by_priority_and_then_in_the_order_of_their_creation(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with processes.scheduler(tmp_path) as at, Client(at.address, at.token) as client:
        jobs = [
            client.submit(
                "test.write",
                {"path": str(done), "line": f"{priority} {number}"},
                priority=priority,
                queue=f"queue-{number % 3}",
            )
            for number, priority in enumerate(PRIORITIES)
        ]
        with processes.worker(
            at, tmp_path / "worker", "--handlers", "support.job_types", "--allow", "test.write", "--slots", "1"
        ):
            for job in jobs:
                job.result(timeout=60)
    rank = ("critical", "high", "normal", "low")
    expected = [f"{name} {number}" for name in rank for number, one in enumerate(PRIORITIES) if one == name]
    assert done.read_text(encoding="utf-8").splitlines() == expected
