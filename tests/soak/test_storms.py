"""Ten thousand parked polls, and five thousand workers that come back at once after an outage."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from support import processes, soak
from support.storms import many_workers
from towpath import Client

# Nobody here sends heartbeats: the sessions must outlive the test without.
PATIENT = ("--lease-ttl", "900", "--heartbeat-interval", "100", "--poll-timeout", "60")
CROWDS = 4
SHARED = 100
# KiB of the scheduler's memory for a parked poll, without the worker's session: on a shared connection, and with one of
# its own.
ON_SHARED, ON_ITS_OWN = 25, 45
BACK_WITHIN = 15.0
OUTAGE = 2.0
SPARE_FILES = 500


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes true in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def open_files() -> int:
    """As many descriptors as this system grants, to the programs started here too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def parked(client: Client, count: int) -> Callable[[], bool]:
    """Whether so many polls are parked."""
    return lambda: client.server_stats().parked_poll_count == count


@dataclass(frozen=True)
class Cost:
    """KiB of the scheduler's memory for each worker."""

    registered: float
    polling: float


def park(folder: Path, workers: int, connections: int, row: soak.Row) -> Cost:
    """Park a poll of each worker over so many connections."""
    folder.mkdir()
    with processes.scheduler(folder, *PATIENT) as at, Client(at.address, at.token) as client:
        client.server_stats()
        server = psutil.Process(at.process.pid)
        memory = [server.memory_info().rss]
        with many_workers(at.address, at.token, workers, connections, CROWDS) as crowd:
            crowd.registered()
            memory.append(server.memory_info().rss)
            crowd.poll()
            everyone = until(parked(client, workers), 120)
            memory.append(server.memory_info().rss)
            crowd.end()
    row.trials += workers
    row.violations += crowd.codes["CANCELLED"] + (not everyone)
    return Cost(*((after - before) / 1024 / workers for before, after in itertools.pairwise(memory)))


def test_ten_thousand_polls_are_parked(tmp_path: Path) -> None:
    polls, files = soak.scale("TOWPATH_SOAK_POLLS"), open_files()
    with soak.row("polls that come at once are all parked, and none is CANCELLED", "polls") as row:
        shared = park(tmp_path / "shared", polls, min(SHARED, polls), row)
        each = min(polls, files - SPARE_FILES) // CROWDS * CROWDS
        alone = park(tmp_path / "alone", each, each, row)
        own = alone.registered + alone.polling - shared.registered
        row.violations += (shared.polling > ON_SHARED) + (own > ON_ITS_OWN)
        row.note = (
            f"{shared.polling:.1f} KiB each on shared connections, {own:.1f} on {each:,} of their own; "
            f"{shared.registered:.1f} for a session"
        )


def test_a_crowd_comes_back_after_an_outage(tmp_path: Path) -> None:
    workers = min(soak.scale("TOWPATH_SOAK_STORM"), open_files() - SPARE_FILES) // CROWDS * CROWDS
    with soak.row(
        f"workers are all back {BACK_WITHIN:g} s after an outage of {OUTAGE:g} s, and none is CANCELLED", "workers"
    ) as row:
        server = processes.scheduler(tmp_path, *PATIENT)
        at = server.__enter__()
        with many_workers(at.address, at.token, workers, workers, CROWDS) as crowd:
            crowd.registered()
            crowd.poll()
            with Client(at.address, at.token) as client:
                assert until(parked(client, workers), 120)
            at.process.kill()
            server.__exit__(None, None, None)
            time.sleep(OUTAGE)
            with processes.scheduler(tmp_path, *PATIENT, "--listen", at.address) as again:
                begun = time.monotonic()
                with Client(again.address, again.token) as client:
                    back = until(parked(client, workers), 120)
                seconds = time.monotonic() - begun
                crowd.end()
        row.trials = workers
        row.violations = crowd.codes["CANCELLED"] + (not back or seconds > BACK_WITHIN)
        refused = ", ".join(f"{count:,} calls {code}" for code, count in crowd.codes.items())
        row.note = f"all parked after {seconds:.1f} s; {refused} meanwhile, {crowd.registrations:,} registrations"
