"""The wall clock jumps by three hours, either way, under real programs (libfaketime). Line 6 of the catalogue.

What is promised, and what cannot be:

- While a scheduler runs, it does not notice: it reads the wall clock once, at its start, and goes on by the steady one.
  No lease is cut short, no job starts early, none times out.
- A scheduler that starts takes the wall clock as it finds it. It cannot tell a jump from having been away: every held
  lease gets one whole TTL from then on, whatever the clock says.
- After a jump backwards a job that is to start later starts later still, never early. After a jump forwards it starts
  when the clock says so: a clock that is wrong at a start is believed.
- Jobs keep their order in either case: new ids are greater than all that is stored.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support import processes
from support.processes import Process
from towpath import Client, JobHandle, JobState

HOURS = 3
JUMPS = (HOURS * 3600, -HOURS * 3600)
LEASE_TTL = 4.0
# The programs see a jump within a second.
MARGIN = 2.0
SETTINGS = ("--lease-ttl", str(LEASE_TTL), "--heartbeat-interval", "0.5")
HANDLERS = ("--handlers", "support.job_types", "--allow", "test.gate,test.write", "--slots", "2")
LIBRARIES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")


def library() -> Path | None:
    """Debian's package libfaketime, in the variant for programs with threads."""
    root = Path("/")
    found = (path for place in LIBRARIES for path in root.glob(f"{place[1:]}/libfaketimeMT.so.1"))
    return next(found, None)


pytestmark = pytest.mark.skipif(library() is None, reason="libfaketime is not here: apt-get install libfaketime")


@dataclass(frozen=True)
class Wall:
    """The wall clock of the programs that are started with `environment`."""

    file: Path

    def jump(self, seconds: int) -> None:
        """It is off by so much from now on."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n", encoding="utf-8")
        fresh.replace(self.file)

    @property
    def environment(self) -> dict[str, str]:
        """The steady clock stays as it is."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            # The file is read again once a second: to read it for each look at the clock cost a third of the machine.
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


@dataclass
class House:
    """A scheduler and a worker that live by one wall clock."""

    folder: Path
    wall: Wall
    stack: ExitStack
    address: str = "127.0.0.1:0"

    def scheduler(self) -> Process:
        """Start it, at the same address each time."""
        words = processes.scheduler_words(self.folder, "--listen", self.address, *SETTINGS)
        environment = processes.clean() | self.wall.environment
        process, self.address = self.stack.enter_context(processes.start(words, self.folder, environment))
        return process

    def worker(self) -> Process:
        """Start it."""
        words = processes.worker_words(self.address, self.folder, *HANDLERS)
        environment = processes.clean() | self.wall.environment
        environment["TOWPATH_TOKEN_FILE"] = str(self.folder / "config" / "token")
        process, _ = self.stack.enter_context(processes.start(words, self.folder, environment))
        return process

    def client(self) -> Client:
        """A client, by the true clock."""
        token = (self.folder / "config" / "token").read_text(encoding="utf-8").strip()
        return self.stack.enter_context(Client(self.address, token))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    wall = Wall(tmp_path / "faketime")
    wall.jump(0)
    os.mkfifo(tmp_path / "gate")
    with ExitStack() as stack:
        yield House(tmp_path, wall, stack)


def at_the_gate(client: Client, folder: Path) -> JobHandle:
    """A job that runs until the gate is opened."""
    job = client.submit("test.gate", {"path": str(folder / "gate")}, execution_timeout=HOURS * 3600 + 600)
    for event in job:
        assert not event.is_final
        if event.progress is not None and event.progress.percent:
            break
    return job


def write(client: Client, folder: Path, line: str) -> JobHandle:
    """A job that writes a line."""
    return client.submit("test.write", {"path": str(folder / "lines"), "line": line})


def past_a_lease(client: Client, folder: Path) -> None:
    """Wait until a whole lease is over, by a job that the scheduler starts then by its own clock."""
    now = write(client, folder, "before").job.create_time
    assert now is not None
    then = now + timedelta(seconds=LEASE_TTL + MARGIN)
    job = client.submit("test.write", {"path": str(folder / "lines"), "line": "after"}, schedule_time=then)
    assert job.result(timeout=60) == "after"


def in_one_go(client: Client, job: JobHandle, folder: Path) -> None:
    """The job at the gate comes to its end in its first attempt."""
    (folder / "gate").write_text("through", encoding="utf-8")
    assert job.result(timeout=60) == "through"
    assert (job.job.attempt, job.job.attempt_count, job.job.lost_count) == (1, 1, 0)


def test_the_clock_of_the_programs_does_jump(house: House) -> None:
    house.wall.jump(HOURS * 3600)
    words = [sys.executable, "-c", "import time; print(time.time(), time.monotonic())"]
    said = subprocess.run(words, env=house.wall.environment, capture_output=True, text=True, check=True).stdout.split()
    assert float(said[0]) == pytest.approx(time.time() + HOURS * 3600, abs=60)
    assert float(said[1]) == pytest.approx(time.monotonic(), abs=60)


def test_line_06_a_jump_under_running_programs_changes_nothing(house: House) -> None:
    house.scheduler()
    house.worker()
    client, folder = house.client(), house.folder
    later = client.submit("test.write", {"path": "nowhere", "line": "early"}, delay=3600)
    waiting = client.submit("test.nobody", queue_timeout=3600)
    for seconds in JUMPS:
        running = at_the_gate(client, folder)
        house.wall.jump(seconds)
        # Whatever the jump could have cut short is over by then.
        past_a_lease(client, folder)
        in_one_go(client, running, folder)
    assert later.refresh().state is JobState.SCHEDULED
    assert waiting.refresh().state is JobState.QUEUED
    made = write(client, folder, "made").job.create_time
    assert made is not None
    assert abs(made - datetime.now(UTC)) < timedelta(minutes=5)


@pytest.mark.parametrize("seconds", JUMPS, ids=["forwards", "backwards"])
def test_line_06_a_jump_while_the_scheduler_is_away_cuts_no_lease_short(house: House, seconds: int) -> None:
    scheduler = house.scheduler()
    house.worker()
    client, folder = house.client(), house.folder
    running = at_the_gate(client, folder)
    later = client.submit("test.write", {"path": "nowhere", "line": "early"}, delay=(HOURS + 1) * 3600)
    client.submit("test.write", {"path": str(folder / "lines"), "line": "due"}, delay=3600)
    in_order = [client.submit("test.nobody").job_id for _ in range(2)]
    scheduler.kill()
    scheduler.wait()
    house.wall.jump(seconds)
    house.scheduler()
    in_order += [client.submit("test.nobody").job_id for _ in range(2)]
    past_a_lease(client, folder)
    in_one_go(client, running, folder)
    assert later.refresh().state is JobState.SCHEDULED
    # The clock of a start is believed.
    assert ("due" in (folder / "lines").read_text(encoding="utf-8").split()) == (seconds > 0)
    assert in_order == sorted(in_order)
    assert [client.explain(job_id).position for job_id in in_order] == [1, 2, 3, 4]
