"""A scheduler and workers under load, killed again and again; then every history is checked against the store.

`run` returns what happened. A seed decides who is killed when, at which failpoints the next lives end, and what the
clients send; how far each process got by then is the machine's affair.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from operator import gt
from pathlib import Path
from threading import Thread

from support import processes, stored
from support.checker import violations
from support.history import History, Ran
from support.killing import Cycle, Victim, schedule, until
from support.submitters import Gauge, Observer, Shared, Submitter, Watcher
from towpath import Client
from towpath.errors import TowpathError
from towpath_server.failpoints import POINTS as SCHEDULER_POINTS
from towpath_worker.failpoints import POINTS as WORKER_POINTS

LEASE_TTL = 2.0
SETTINGS = ("--lease-ttl", str(LEASE_TTL), "--heartbeat-interval", "0.5", "--log-level", "warning")
HANDLERS = ("--handlers", "support.recorded", "--allow", "recorded.run", "--log-level", "warning")
SLOTS = (2, 1, 1)
SUBMITTERS = 3
WATCHERS = 2
BACKLOG = 150
# So many jobs at least are new between two kills.
FRESH = 20
# A kill waits this long for the work that is to lie between two kills; then it comes anyway.
PATIENCE = 10.0
SETTLED_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a loop came to. `broken` names each violation; the evidence lies in `folder` then."""

    kills: Counter[str]
    acknowledged: int
    runs: int
    again: int
    tellings: int
    seconds: float
    broken: Sequence[str]
    folder: Path

    def __str__(self) -> str:
        killed = ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.acknowledged} acknowledged jobs, {self.runs} runs ({self.again} of them again), "
            f"{self.tellings} tellings checked; {killed}"
        )


def run(folder: Path, *, seed: int, cycles: int, jobs: int, longest_pause: float, batch: int, freezes: float) -> Report:
    """Kill so often, at random or at a failpoint, under so many acknowledged jobs at least."""
    begun = time.monotonic()
    loop = _Loop(folder, seed, batch)
    with ExitStack() as stack:
        stack.callback(loop.end)
        loop.start()
        plan = schedule(seed, cycles, len(SLOTS), longest_pause=longest_pause, freezes=freezes)
        for cycle in plan:
            # One in ten acknowledgements or so is a repeat.
            loop.turn(cycle, jobs * (loop.kills().total() + 1) * 6 // (5 * cycles))
            if loop.kills().total() >= cycles:
                break
        loop.settle()
    broken = [*loop.faults(), *map(str, loop.check())]
    if broken:
        folder = _keep(folder, loop.shared.history, broken, seed)
    runs = loop.shared.history.ran
    return Report(
        kills=loop.kills(),
        acknowledged=len({one.job_id for one in loop.shared.history.acknowledged}),
        runs=len(runs),
        again=len(runs) - len({(one.job_id, one.attempt) for one in runs}),
        tellings=len(loop.shared.history.told),
        seconds=time.monotonic() - begun,
        broken=broken,
        folder=folder,
    )


class _Loop:
    def __init__(self, folder: Path, seed: int, batch: int) -> None:
        self._folder = folder
        self._seed = seed
        self._runs = folder / "runs"
        self._runs.touch()
        self._store = folder / "towpath.db"
        # The first start makes the store and the token, and finds a port that is free.
        with processes.scheduler(folder, *SETTINGS) as at:
            self._at = at
            token = at.token
        self.shared = Shared(at.address, token, str(self._runs), History(), BACKLOG)
        self._victims = [self._scheduler(), *(self._worker(number) for number in range(len(SLOTS)))]
        self._submitters = [Submitter(self.shared, f"s{number}", seed, batch) for number in range(SUBMITTERS)]
        self._watchers = [Watcher(self.shared, f"w{number}", seed) for number in range(WATCHERS)]
        observers: list[Observer] = [*self._submitters, Gauge(self.shared, "gauge", seed), *self._watchers]
        self._threads = [Thread(target=one.work, name=one.name, daemon=True) for one in observers]

    def _scheduler(self) -> Victim:
        words = processes.scheduler_words(self._folder, "--listen", self._at.address, *SETTINGS)
        points = [(name, 1 if name.startswith("start.") else 60) for name in SCHEDULER_POINTS]
        chance = random.Random(f"{self._seed} scheduler")
        return Victim("scheduler", words, self._folder, processes.clean(), points, chance)

    def _worker(self, number: int) -> Victim:
        folder = self._folder / f"worker-{number}"
        words = processes.worker_words(self._at.address, folder, *HANDLERS, "--slots", str(SLOTS[number]))
        points = [(name, 20) for name in WORKER_POINTS if not name.startswith("model.")]
        return Victim("worker", words, folder, self._at.environment, points, random.Random(f"{self._seed} {number}"))

    def start(self) -> None:
        for one in self._victims:
            one.start(armed=False)
        for thread in self._threads:
            thread.start()

    def turn(self, cycle: Cycle, jobs: int) -> None:
        """One kill, once the pause is over and so many jobs are acknowledged."""
        time.sleep(cycle.pause)
        before = self._progress()
        self.shared.budget = max(jobs, before[0]) + FRESH
        until(lambda: self._look() and all(map(gt, self._progress(), (jobs, before[1]))), PATIENCE)
        victim = self._victims[cycle.victim]
        if cycle.freeze:
            victim.freeze(3 * LEASE_TTL)
            return
        victim.kill()
        victim.start()

    def _progress(self) -> tuple[int, int]:
        """Jobs acknowledged, and how much handlers wrote."""
        return len(self.shared.history.acknowledged), self._runs.stat().st_size

    def _look(self) -> bool:
        for one in self._victims:
            one.revive()
        return True

    def settle(self) -> None:
        """Let everything come to its end, without further kills."""
        for one in self._victims:
            if one.armed or one.frozen_until:
                one.kill()
                one.start(armed=False)
        self.shared.stop.set()
        for thread in self._threads[:SUBMITTERS]:
            thread.join(SETTLED_SECONDS)
        with Client(self._at.address, self.shared.token, timeout=SETTLED_SECONDS) as client:
            for job_id in sorted(self.shared.paused):
                until(lambda job_id=job_id: self._submitters[0].steer(client, job_id, "resume"), SETTLED_SECONDS)  # type: ignore[misc]
            until(lambda: not client.stats().active_count, SETTLED_SECONDS)
            for thread in self._threads[SUBMITTERS:]:
                thread.join(SETTLED_SECONDS)
            try:
                self.shared.history.listed += stored.listed(client)
            except TowpathError as error:
                self.shared.faults.append(f"the jobs could not be listed at the end: {error!r}")
        self.shared.faults += [f"{one.name} hangs" for one in self._threads if one.is_alive()]

    def end(self) -> None:
        self.shared.stop.set()
        for one in reversed(self._victims):
            one.end()

    def check(self) -> Sequence[object]:
        history = self.shared.history
        history.stored += stored.on_disk(self._store)
        lines = self._runs.read_text(encoding="utf-8").splitlines()
        history.ran += [Ran(job_id, int(attempt), name, body) for job_id, attempt, name, body in map(str.split, lines)]
        return violations(history)

    def faults(self) -> list[str]:
        return [*self.shared.faults, *(fault for one in self._victims for fault in one.faults)]

    def kills(self) -> Counter[str]:
        return sum(
            (Counter({f"{one.name} {name}": count for name, count in one.kills.items()}) for one in self._victims),
            Counter(),
        )


def _keep(folder: Path, history: History, broken: Sequence[str], seed: int) -> Path:
    """The histories, the store and the logs, where nobody removes them."""
    kept = Path(__file__).resolve().parents[2] / ".towpath" / "violations" / f"seed-{seed}-{time.time_ns()}"
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("work", "config"))
    for one in fields(history):
        lines = [json.dumps(asdict(record)) for record in getattr(history, one.name)]
        (kept / f"{one.name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (kept / "broken.txt").write_text("\n".join(broken) + "\n", encoding="utf-8")
    return kept
