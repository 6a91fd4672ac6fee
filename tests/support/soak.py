"""What `make soak` measured: one row a promise, told as one table at the end and as JSON.

How a soak test adds its row:

    from support import soak

    def test_parked_polls() -> None:
        with soak.row("10,000 polls are parked, none is cancelled", "polls") as row:
            polls = soak.scale("TOWPATH_SOAK_POLLS")  # see SCALES below: add yours there
            ...
            row.trials += polls
            row.violations += cancelled
            row.note = f"{kib:.1f} KiB each"

The row is recorded however the block ends: an exception counts as one violation at least, and the time is the block's
unless `row.seconds` was set. Where violations are left, the block itself fails: no assertion is needed for them. A test
that measures several promises writes several rows, one after the other or with `soak.record(...)`. A test that fails
and recorded nothing gets a row of its own (tests/soak/conftest.py).

The rows go to TOWPATH_SOAK_JSON (.towpath/soak.json) as each of them is recorded, so that an aborted run keeps them.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

# How long each part runs: environment variable, what it is by default, and what it means. All of them are here.
SCALES: Mapping[str, tuple[int, str]] = {
    "TOWPATH_SOAK_CYCLES": (1_000, "kills of the kill loop"),
    "TOWPATH_SOAK_JOBS": (100_000, "jobs that the kill loop has acknowledged at least"),
    "TOWPATH_SOAK_REPLICA_CYCLES": (500, "kills of the kill loop with three schedulers and PostgreSQL"),
    "TOWPATH_SOAK_REPLICA_JOBS": (50_000, "jobs that it has acknowledged at least"),
    "TOWPATH_SOAK_SEED": (1, "seed of the kill loop's schedule"),
    "TOWPATH_SOAK_QUEUED": (1_000_000, "queued jobs in the store that is started again"),
    "TOWPATH_SOAK_SEEDS": (100_000, "seeds of the simulation"),
    "TOWPATH_SOAK_SIMULATION_SECONDS": (3_600, "most seconds for the simulation's seeds"),
    "TOWPATH_SOAK_MACHINES": (20, "seeds of each state machine"),
    "TOWPATH_SOAK_DEAD": (200, "workers that fall silent"),
    "TOWPATH_SOAK_CANCELS": (100, "cancels of jobs inside C"),
    "TOWPATH_SOAK_POLLS": (10_000, "polls that are parked at once"),
    "TOWPATH_SOAK_STORM": (5_000, "workers that come back at once"),
    "TOWPATH_SOAK_FUZZ": (100_000, "broken requests"),
    "TOWPATH_SOAK_SEQUENCES": (2_000, "sequences of reports by a hostile worker"),
    "TOWPATH_SOAK_TABLES": (20_000, "broken tables and models"),
}
RESULTS = "TOWPATH_SOAK_JSON"


@dataclass(slots=True)
class Row:
    """How often a promise was put to the test, and how often it was broken."""

    promise: str
    unit: str
    trials: int = 0
    violations: int = 0
    seconds: float = 0.0
    note: str = ""


rows: list[Row] = []


class PromiseBroken(AssertionError):
    """A soak test ended with violations."""


def scale(name: str) -> int:
    """How much of it: the environment variable, or its default. Raises KeyError where SCALES does not name it."""
    default, _ = SCALES[name]
    return int(os.environ.get(name) or default)


@contextmanager
def row(promise: str, unit: str) -> Iterator[Row]:
    """A row to fill in; recorded when the block ends. Raises `PromiseBroken` where it has violations then."""
    filled, begun = Row(promise, unit), time.monotonic()
    try:
        yield filled
    except BaseException as error:
        filled.violations = max(filled.violations, 1)
        words = (str(error).splitlines() or [""])[0]
        filled.note = "; ".join(filter(None, [filled.note, f"{type(error).__name__}: {words}"[:200]]))
        raise
    finally:
        filled.seconds = filled.seconds or time.monotonic() - begun
        _keep(filled)
    if filled.violations:
        raise PromiseBroken(f"{promise}: {filled.violations} violations. {filled.note}")


def record(promise: str, trials: int, unit: str, violations: int, seconds: float, note: str = "") -> None:
    """A row that is complete already."""
    _keep(Row(promise, unit, trials, violations, seconds, note))


def _keep(filled: Row) -> None:
    rows.append(filled)
    path = results_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"time": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "machine": machine(), "rows": [asdict(r) for r in rows]}
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def results_file() -> Path:
    """Where the rows are written."""
    return Path(os.environ.get(RESULTS) or Path(__file__).resolve().parents[2] / ".towpath" / "soak.json")


def machine() -> str:
    """Cores, memory, system and Python, in words."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    return f"{cores} cores, {gigabytes:.0f} GiB, {system}, Python {platform.python_version()}"


def show() -> None:
    """Print the table."""
    table = Table(title=f"{machine()}, {datetime.now(UTC):%Y-%m-%d}", title_justify="left")
    table.add_column("promise")
    table.add_column("trials", justify="right")
    table.add_column("violations", justify="right")
    table.add_column("time", justify="right")
    for one in rows:
        promise = f"{one.promise}\n[dim]{one.note}[/dim]" if one.note else one.promise
        broken = f"[bold red]{one.violations:,}[/]" if one.violations else "0"
        table.add_row(promise, f"{one.trials:,} {one.unit}", broken, duration(one.seconds))
    console = Console()
    Console(width=None if console.is_terminal else 120).print(table)


def duration(seconds: float) -> str:
    """Readable: 0.42 s, 61 s, 34 min."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
