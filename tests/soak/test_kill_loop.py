"""A thousand kills under a hundred thousand acknowledged jobs: none lost, none with two effects."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import kill_loop, soak

# The scheduler's memory and the workers' folders are fresh in each part, and what is kept of a violation stays small.
KILLS_AT_ONCE = 250


@pytest.mark.parametrize(
    ("replicas", "scales", "words"),
    [
        (0, ("TOWPATH_SOAK_CYCLES", "TOWPATH_SOAK_JOBS"), ""),
        (
            3,
            ("TOWPATH_SOAK_REPLICA_CYCLES", "TOWPATH_SOAK_REPLICA_JOBS"),
            " of 3 schedulers, workers and their PostgreSQL",
        ),
    ],
    ids=["one scheduler", "three schedulers"],
)
def test_nothing_acknowledged_is_lost_and_nothing_counts_twice(
    tmp_path: Path, replicas: int, scales: tuple[str, str], words: str
) -> None:
    cycles, jobs, seed = map(soak.scale, (*scales, "TOWPATH_SOAK_SEED"))
    parts = max(1, cycles // KILLS_AT_ONCE)
    acknowledged = runs = again = tellings = 0
    with soak.row(
        f"an acknowledged job reaches one final state, and one outcome takes effect (kill -9{words})", "kills"
    ) as row:
        for part in range(parts):
            folder = tmp_path / str(part)
            folder.mkdir()
            report = kill_loop.run(
                folder,
                seed=seed + part,
                cycles=cycles // parts,
                jobs=jobs // parts,
                longest_pause=0.5,
                batch=100,
                freezes=0.1 if replicas else 0.02,
                replicas=replicas,
            )
            print(f"\nseed {seed + part}: {report}; {report.seconds:.0f} s")
            row.trials += report.kills.total()
            row.violations += len(report.broken)
            acknowledged += report.acknowledged
            runs, again, tellings = runs + report.runs, again + report.again, tellings + report.tellings
            row.note = f"{acknowledged:,} acknowledged jobs, {runs:,} runs, {tellings:,} tellings checked"
            if report.broken:
                print("\n".join([*report.broken[:50], f"Evidence: {report.folder}"]))
