"""kill -9 of scheduler and workers, at random and at named failpoints, under load: nothing lost, nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import kill_loop

CYCLES = 50
JOBS = 1_000


@pytest.mark.timeout(300)
def test_50_kills_lose_nothing_and_let_nothing_count_twice(tmp_path: Path) -> None:
    report = kill_loop.run(tmp_path, seed=1, cycles=CYCLES, jobs=JOBS, longest_pause=0.4, batch=20, freezes=0.04)
    print(report, f"{report.seconds:.0f} s")
    assert not report.broken, "\n".join([*report.broken[:20], f"Evidence: {report.folder}"])
    assert report.acknowledged >= JOBS
