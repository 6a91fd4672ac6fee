"""Dispatch beside the deletion of very many finished jobs: when their keep is over, and when somebody cleans up."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench.figures import Measure, Scale, percentile
from bench.programs import Scheduler, scheduler, scratch
from bench.scaling.filled import Amount, fill_postgres, fill_sqlite
from bench.scaling.places import database
from bench.scaling.probe import Dispatch, dispatches
from towpath import AsyncClient
from towpath_server.store.postgres import PostgresStore
from towpath_server.store.sqlite import SqliteStore

FILLED = Amount(1_000, 1_000_000)
#: How long dispatch is looked at, in each case.
SECONDS = 10.0
#: What a scheduler does at its start is not what is measured.
START_SECONDS = 2.0
OVER = "update jobs set due_time = 1 where state = 8"
LEFT = "select count(*) from jobs where state = 8"
STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
CASES = {
    "alone": "nothing is deleted",
    "purge": "the keep of a million is over",
    "cleanup": "a million are cleaned up",
}
KEYS = tuple(
    measure
    for store, words in STORES.items()
    for measure in (
        *(
            Measure(
                f"scaling.retention.{store}.{case}.{share}", f"{words}: create -> leased while {what}, {share}", "ms"
            )
            for case, what in CASES.items()
            for share in ("p50", "p99")
        ),
        *(
            Measure(f"scaling.retention.{store}.{case}.rate", f"{words}: deleted while {what}", "jobs/s")
            for case, what in CASES.items()
            if case != "alone"
        ),
    )
)
Run = Callable[[str], int]


def measure(scale: Scale) -> dict[str, float]:
    """Both stores."""
    amount = Amount(FILLED.queued, scale.count(FILLED.finished, 2_000))
    seconds = max(SECONDS * min(scale.size, 1.0), 0.5)
    figures: dict[str, float] = {}
    for name, place in {"sqlite": _sqlite, "postgres": _postgres}.items():
        with scratch() as folder, place(folder, amount) as (store, run):
            found = _figures(folder, store, run, seconds)
        figures |= {f"scaling.retention.{name}.{key}": value for key, value in found.items()}
    return figures


@contextmanager
def _sqlite(folder: Path, amount: Amount) -> Iterator[tuple[str, Run]]:
    path = folder / "filled.db"
    fill_sqlite(path, lambda: SqliteStore(path), amount)

    def run(statement: str) -> int:
        with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            found = connection.execute(statement)
            return int(found.fetchone()[0]) if found.description else found.rowcount

    yield f"sqlite:///{path}", run


@contextmanager
def _postgres(folder: Path, amount: Amount) -> Iterator[tuple[str, Run]]:
    with database() as (connection, url):
        fill_postgres(url, lambda: PostgresStore(url), amount)

        def run(statement: str) -> int:
            found = connection.execute(statement.encode())
            row = found.fetchone() if found.description else None
            return int(row[0]) if row else found.rowcount

        yield url, run


def _figures(folder: Path, store: str, run: Run, seconds: float) -> dict[str, float]:
    figures: dict[str, float] = {}

    def keep(case: str, taken: list[Dispatch], deleted: float | None = None) -> None:
        called = [one.called for one in taken]
        figures.update({f"{case}.p50": percentile(called, 0.5), f"{case}.p99": percentile(called, 0.99)})
        if deleted is not None:
            figures[f"{case}.rate"] = deleted

    with scheduler(folder, store=store) as at:
        at.settle()
        keep("alone", asyncio.run(_during(at, seconds)))
        taken, rate = asyncio.run(_beside_cleanup(at, run, seconds))
        keep("cleanup", taken, rate)
    # It is deleted by whoever starts next, and from the start.
    run(OVER)
    with scheduler(folder, store=store) as at:
        time.sleep(START_SECONDS)
        before, begun = run(LEFT), time.perf_counter()
        taken = asyncio.run(_during(at, seconds))
        keep("purge", taken, (before - run(LEFT)) / (time.perf_counter() - begun))
    return figures


async def _during(at: Scheduler, seconds: float) -> list[Dispatch]:
    until, taken = time.perf_counter() + seconds, []
    probing = dispatches(at, at)
    async for one in probing:
        taken.append(one)
        if time.perf_counter() > until:
            break
    await probing.aclose()  # type: ignore[attr-defined]
    return taken


async def _beside_cleanup(at: Scheduler, run: Run, seconds: float) -> tuple[list[Dispatch], float]:
    """It goes on when the call is cut off, and ends with the scheduler."""
    async with AsyncClient(at.address, at.token) as client:
        before, begun = run(LEFT), time.perf_counter()
        cleaning = asyncio.create_task(client.cleanup())
        taken = await _during(at, seconds)
        rate = (before - run(LEFT)) / (time.perf_counter() - begun)
        cleaning.cancel()
        await asyncio.gather(cleaning, return_exceptions=True)
    return taken, rate
