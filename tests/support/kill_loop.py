"""Schedulers and workers under load, killed again and again; then every history is checked against the store.

`run` returns what happened. A seed decides who is killed when, at which failpoints the next lives end, and what the
clients send; how far each process got by then is the machine's affair.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import gt
from pathlib import Path

from support import processes
from support.crowd import HANDLERS, Crowd
from support.killing import Cast, Cycle, Victim, schedule, until
from support.places import Database, OnFile, OnPostgres, Place
from towpath_server.core.job import SECOND
from towpath_server.scheduler.replicas import DEAD
from towpath_worker.failpoints import POINTS

LEASE_TTL = 2.0
SETTINGS = ("--lease-ttl", str(LEASE_TTL), "--heartbeat-interval", "0.5", "--log-level", "warning")
SLOTS = (2, 1, 1)
# A kill waits this long for the work that is to lie between two kills; then it comes anyway.
PATIENCE = 10.0
# A worker stands still for three leases, a scheduler until it is taken for dead and a little longer.
STOPPED_WORKER = 3 * LEASE_TTL
STOPPED_SCHEDULER = DEAD / SECOND + 2.5


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


def run(
    folder: Path,
    *,
    seed: int,
    cycles: int,
    jobs: int,
    longest_pause: float,
    batch: int,
    freezes: float,
    replicas: int = 0,
) -> Report:
    """Kill so often, at random or at a failpoint, under so many acknowledged jobs at least.

    With `replicas`, so many schedulers share a PostgreSQL, and that is killed too; else there is one on a SQLite file.
    """
    begun = time.monotonic()
    place = _place(folder, seed, replicas)
    with ExitStack() as stack:
        stack.callback(place.close)
        loop = _Loop(folder, seed, batch, place)
        with ExitStack() as running:
            running.callback(loop.end)
            loop.start()
            plan = schedule(seed, cycles, loop.cast, longest_pause=longest_pause, freezes=freezes)
            for cycle in plan:
                # One in ten acknowledgements or so is a repeat.
                loop.turn(cycle, jobs * (loop.kills().total() + 1) * 6 // (5 * cycles))
                if loop.kills().total() >= cycles:
                    break
            loop.settle()
        broken = loop.crowd.broken(place.stored(), loop.faults())
        if broken:
            folder = loop.crowd.keep(broken)
            place.keep(folder)
    history = loop.crowd.shared.history
    return Report(
        kills=loop.kills(),
        acknowledged=len({one.job_id for one in history.acknowledged}),
        runs=len(history.ran),
        again=len(history.ran) - len({(one.job_id, one.attempt) for one in history.ran}),
        tellings=len(history.told) + len(history.followed),
        seconds=time.monotonic() - begun,
        broken=broken,
        folder=folder,
    )


def _place(folder: Path, seed: int, replicas: int) -> Place:
    return OnPostgres(folder, seed, SETTINGS, replicas) if replicas else OnFile(folder, seed, SETTINGS)


class _Loop:
    def __init__(self, folder: Path, seed: int, batch: int, place: Place) -> None:
        self._folder = folder
        self._seed = seed
        self._place = place
        self.crowd = Crowd(folder, place.address, place.token, seed, batch)
        workers = [self._worker(number) for number in range(len(SLOTS))]
        self._victims: list[Victim | Database] = [*place.schedulers, *workers, *place.databases]
        self.cast = Cast(len(place.schedulers), len(workers), len(place.databases))

    def _worker(self, number: int) -> Victim:
        folder = self._folder / f"worker-{number}"
        words = processes.worker_words(self._place.address, folder, *HANDLERS, "--slots", str(SLOTS[number]))
        points = [(name, 20) for name in POINTS if not name.startswith("model.")]
        chance = random.Random(f"{self._seed} {number}")
        return Victim("worker", words, folder, self._place.environment, points, chance)

    def start(self) -> None:
        for one in self._victims[: -self.cast.databases or None]:
            one.start(armed=False)
        self.crowd.start()

    def turn(self, cycle: Cycle, jobs: int) -> None:
        """One kill, once the pause is over and so many jobs are acknowledged."""
        time.sleep(cycle.pause)
        _, before = self.crowd.progress()
        self.crowd.want(jobs)
        until(lambda: self._look() and all(map(gt, self.crowd.progress(), (jobs, before))), PATIENCE)
        victims = [self._victims[number] for number in cycle.victims]
        if cycle.freeze:
            seconds = STOPPED_SCHEDULER if min(cycle.victims) < self.cast.schedulers else STOPPED_WORKER
            for one in victims:
                one.freeze(seconds)
            return
        for one in victims:
            one.kill()
        for one in victims:
            one.start()

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
        self.crowd.settle()

    def end(self) -> None:
        self.crowd.shared.stop.set()
        for one in reversed(self._victims):
            one.end()

    def faults(self) -> list[str]:
        return [fault for one in self._victims for fault in one.faults]

    def kills(self) -> Counter[str]:
        return sum(
            (Counter({f"{one.name} {name}": count for name, count in one.kills.items()}) for one in self._victims),
            Counter(),
        )
