"""`python -m bench.drivers`: which way to bring jobs into PostgreSQL and out costs least, on one of its own.

Each way is measured inside a transaction that is rolled back, so that the disk has no part in it; then commits, with
and without NOTIFY. "busy": another thread wants the interpreter all the time, as an event loop under load does.
asyncpg is measured where it is installed; nothing of Towpath needs it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from rich.console import Console
from rich.table import Table as Shown

from bench.drivers import commits, samples, ways
from bench.drivers.ways import ASYNCPG, PSYCOPG, Batch
from bench.peers.peers import POSTGRES
from bench.services import services

FILLED = 100_000
CHUNK = 5_000
SIZES = (1, 10, 100, 1000)
#: Statements are prepared after five times, and planned once for all after five more.
WARM, LEAST = 12, 5
#: As the scheduler sets it.
SWITCH_INTERVAL = 1e-4
WORK = {"jobs": [{"job_id": number, "state": "QUEUED", "labels": {}} for number in range(20)]}
VERBS = ("insert", "load", "claim", "save")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a row took in the median batch, in microseconds: by the clock, and of the thread's own CPU."""

    wall: float
    cpu: float


def main() -> None:
    """Measure everything, and show it."""
    arguments = _arguments()
    sys.setswitchinterval(SWITCH_INTERVAL)
    console = Console(width=None if sys.stdout.isatty() else 140)
    with services([] if arguments.url else [POSTGRES]) as up:
        if up.missing:
            raise SystemExit(f"PostgreSQL: {up.missing[POSTGRES]}")
        url = arguments.url or up.environment["BENCH_POSTGRES"]
        with _first(url) as connection:
            _fill(connection)
        for verb in VERBS:
            if arguments.only in (None, verb):
                console.print(_table(verb, _measured(url, verb, arguments.seconds)))
        if arguments.only in (None, "commits"):
            console.print(_commits(url, arguments.seconds))


def _first(url: str) -> ways.Connection:
    """A connection, as soon as there can be one: the port is open before that."""
    while True:
        try:
            return psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError as error:
            if "starting up" not in str(error):
                raise
            time.sleep(0.05)


def _measured(url: str, verb: str, seconds: float) -> Iterator[tuple[str, list[Taken]]]:
    """Each way with its figures: for each size idle, then busy."""
    for prepare in (True, False):
        with psycopg.connect(url, prepare_threshold=5 if prepare else None) as connection:
            # Else a parameter's type, and with it the prepared statement, depends on how large a number is.
            for dumper in (Int8Dumper, Int8BinaryDumper):
                connection.adapters.register_dumper(int, dumper)
            for name, way in PSYCOPG[verb].items():
                label = name if prepare else f"{name}, unprepared"
                yield label, _sizes(verb, seconds, partial(way, connection), connection.rollback)
                _vacuum(url)
    try:
        import asyncpg
    except ImportError:
        return
    loop = asyncio.new_event_loop()
    other = loop.run_until_complete(asyncpg.connect(url))
    for name, one in ASYNCPG[verb].items():

        def run(batch: Batch, one: ways.AsyncWay = one) -> None:
            if not other.is_in_transaction():
                loop.run_until_complete(other.execute("BEGIN"))
            loop.run_until_complete(one(other, batch))

        yield name, _sizes(verb, seconds, run, lambda: loop.run_until_complete(other.execute("ROLLBACK")))
        _vacuum(url)
    loop.run_until_complete(other.close())
    loop.close()


def _sizes(verb: str, seconds: float, run: Callable[[Batch], object], undo: Callable[[], object]) -> list[Taken]:
    found = []
    for busy in (False, True):
        with _busy_thread(busy):
            found += [_timed(verb, size, seconds, run, undo) for size in SIZES]
    return found


def _timed(verb: str, size: int, seconds: float, run: Callable[[Batch], object], undo: Callable[[], object]) -> Taken:
    walls, cpus = [], []
    times = 0
    until = time.monotonic() + seconds
    while times < WARM + LEAST or time.monotonic() < until:
        batch = _batch(verb, size, times)
        begun, used = time.perf_counter(), time.thread_time()
        run(batch)
        walls.append(time.perf_counter() - begun)
        cpus.append(time.thread_time() - used)
        undo()
        times += 1
    return Taken(*(statistics.median(each[WARM:]) / size * 1e6 for each in (walls, cpus)))


def _batch(verb: str, size: int, times: int) -> Batch:
    new = range(FILLED + 1 + times * size, FILLED + 1 + (times + 1) * size) if verb == "insert" else range(0)
    first = 1 + times * size * 7 % (FILLED - size)
    old = range(first, first + size)
    return Batch(
        ((samples.JOBS, [*map(samples.job_row, new)]), (samples.DEFINITIONS, [*map(samples.definition_row, new)])),
        [samples.saved_row(number, times + 1) for number in old] if verb == "save" else [],
        old,
    )


def _fill(connection: ways.Connection) -> None:
    connection.execute(samples.SCHEMA)
    for first in range(1, FILLED, CHUNK):
        new = range(first, first + CHUNK)
        jobs, definitions = [*map(samples.job_row, new)], [*map(samples.definition_row, new)]
        ways.copy_text_insert(connection, Batch(((samples.JOBS, jobs), (samples.DEFINITIONS, definitions)), (), ()))
    connection.execute("VACUUM ANALYZE jobs, definitions")


def _vacuum(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM jobs, definitions")


@contextmanager
def _busy_thread(wanted: bool) -> Iterator[None]:
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            json.loads(json.dumps(WORK))

    thread = threading.Thread(target=work)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if wanted:
            thread.join()


def _table(verb: str, measured: Iterator[tuple[str, list[Taken]]]) -> Shown:
    shown = Shown("way", title=f"{verb}: microseconds a row, by the clock / CPU of the thread")
    for busy in ("", " busy"):
        for size in SIZES:
            shown.add_column(f"{size}{busy}", justify="right")
    for name, figures in measured:
        shown.add_row(name, *(f"{one.wall:.0f} / {one.cpu:.0f}" for one in figures))
    return shown


def _commits(url: str, seconds: float) -> Shown:
    shown = Shown("transaction", "the disk", title="commits a second of all programs / CPU for each, µs")
    for programs in commits.PROGRAMS:
        shown.add_column(f"{programs} at once", justify="right")
    for name, disk, came in commits.measure(url, seconds):
        each = came.values()
        shown.add_row(name, disk, *(f"{sum(one.rate for one in all_):.0f} / {all_[0].cpu * 1e6:.0f}" for all_ in each))
    return shown


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.drivers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure")
    parser.add_argument("--only", choices=[*VERBS, "commits"], help="only this")
    parser.add_argument("--url", help="a PostgreSQL to use instead, in a database that may be overwritten")
    return parser.parse_args()


if __name__ == "__main__":
    main()
