"""Scheduler and workers killed at random, again and again: no acknowledged job is lost, none has two results.

`make soak`; TOWPATH_SOAK_CYCLES says how many kills (default 100), TOWPATH_SOAK_SEED which ones.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from support import processes
from support.processes import Process, Scheduler
from towpath import Client, JobState
from towpath.errors import TowpathError

CYCLES = int(os.environ.get("TOWPATH_SOAK_CYCLES", "100"))
SEED = int(os.environ.get("TOWPATH_SOAK_SEED", "1"))
WORKERS = 3
QUICK = ("--lease-ttl", "3", "--heartbeat-interval", "0.5")
JOBS = ("--handlers", "support.job_types", "--allow", "test.write", "--slots", "2")


@dataclass
class Told:
    """What the submitter was told: acknowledged jobs with the line that each writes."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)


def submit(at: Scheduler, effects: Path, told: Told) -> None:
    """Submit jobs, one after the other, through every outage."""
    number = 0
    with Client(at.address, at.token, timeout=120) as client:
        while not told.stop.is_set():
            line = f"line {number}"
            number += 1
            try:
                job = client.submit("test.write", {"path": str(effects), "line": line}, max_lost=1000)
            except TowpathError:
                # Not acknowledged: nothing is promised.
                continue
            told.acknowledged[job.job_id] = line


def start_worker(stack: ExitStack, at: Scheduler, folder: Path, number: int) -> Process:
    return stack.enter_context(processes.worker(at, folder / f"worker-{number}", *JOBS))


def kill(process: Process) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_nothing_acknowledged_is_lost_and_nothing_counts_twice(tmp_path: Path) -> None:
    chance, told, effects = random.Random(SEED), Told(), tmp_path / "effects"
    kills: Counter[str] = Counter()
    begun = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        at = first = server.enter_context(processes.scheduler(tmp_path, *QUICK))
        workers = {number: start_worker(stack, at, tmp_path, number) for number in range(WORKERS)}
        submitting = threading.Thread(target=submit, args=(at, effects, told))
        submitting.start()
        for _ in range(CYCLES):
            # When to kill is what is varied here; nothing waits for it.
            time.sleep(chance.uniform(0.05, 1.0))
            if chance.random() < 0.3:
                kill(at.process)
                server.close()
                at = server.enter_context(processes.scheduler(tmp_path, *QUICK, "--listen", first.address))
                kills["scheduler"] += 1
            else:
                number = chance.randrange(WORKERS)
                kill(workers[number])
                workers[number] = start_worker(stack, at, tmp_path, number)
                kills["worker"] += 1
        told.stop.set()
        submitting.join()
        with Client(at.address, at.token, timeout=120) as client:
            for job_id, line in told.acknowledged.items():
                assert client.job(job_id).result(timeout=120, progress=False) == line
            states = client.stats().by_state
        assert set(states) == {JobState.SUCCEEDED}
        assert states[JobState.SUCCEEDED] >= len(told.acknowledged)
        server.close()
    written = Counter(effects.read_text(encoding="utf-8").splitlines())
    assert set(told.acknowledged.values()) <= set(written)
    again = sum(count - 1 for count in written.values())
    print(
        f"\n{len(told.acknowledged)} acknowledged jobs, {kills['scheduler']} schedulers and {kills['worker']} workers "
        f"killed: 0 lost, 0 with two results; {again} ran more than once. {time.monotonic() - begun:.0f} s"
    )
