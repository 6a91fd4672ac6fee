"""A thousand kills under a hundred thousand acknowledged jobs: none lost, none with two effects."""

from __future__ import annotations

from pathlib import Path

from support import kill_loop, soak

# The scheduler's memory and the workers' folders are fresh in each part, and what is kept of a violation stays small.
KILLS_AT_ONCE = 250


def test_nothing_acknowledged_is_lost_and_nothing_counts_twice(tmp_path: Path) -> None:
    cycles, jobs, seed = (soak.scale(f"TOWPATH_SOAK_{name}") for name in ("CYCLES", "JOBS", "SEED"))
    parts = max(1, cycles // KILLS_AT_ONCE)
    acknowledged = runs = again = tellings = 0
    with soak.row(
        "an acknowledged job reaches one final state, and one outcome takes effect (kill -9)", "kills"
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
                freezes=0.02,
            )
            print(f"\nseed {seed + part}: {report}; {report.seconds:.0f} s")
            row.trials += report.kills.total()
            row.violations += len(report.broken)
            acknowledged += report.acknowledged
            runs, again, tellings = runs + report.runs, again + report.again, tellings + report.tellings
            row.note = f"{acknowledged:,} acknowledged jobs, {runs:,} runs, {tellings:,} tellings checked"
            if report.broken:
                print("\n".join([*report.broken[:50], f"Evidence: {report.folder}"]))
