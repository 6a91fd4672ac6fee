"""Processes that are killed and started again, by a schedule that a seed decides."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.processes import STOP_SECONDS

VARIABLE = "TOWPATH_FAILPOINTS"
KILLED = -signal.SIGKILL


@dataclass
class Victim:
    """A program that is started again as often as it dies; `points` says at which failpoints and at which visits."""

    name: str
    words: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    points: Sequence[tuple[str, int]]
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    armed: str = ""
    frozen_until: float = 0.0
    # Its last words where it may end with 1: what it cannot do without is killed too.
    excuse: str = ""

    def start(self, *, armed: bool = True) -> None:
        """Start it, without waiting until it is ready; now and then with a failpoint at which it will die."""
        self.armed, environment = "", dict(self.environment)
        # Always drawn, so that a schedule does not depend on who died where.
        point, most = self.chance.choice(self.points)
        nth, with_point = self.chance.randint(1, most), self.chance.random() < 0.5
        if armed and with_point:
            self.armed = point
            environment[VARIABLE] = f"{point}=kill:{nth}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.words, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """kill -9, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.kills["at random"] += 1
        else:
            self._bury()
        self.frozen_until = 0.0

    def revive(self) -> None:
        """Start it again where it died by itself, and let it go on where it was stopped for long enough."""
        if self.process.poll() is not None:
            self._bury()
            self.start()
        elif self.frozen_until and time.monotonic() >= self.frozen_until:
            self.process.send_signal(signal.SIGCONT)
            self.frozen_until = 0.0

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, until `revive` finds that the time is over."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            self.frozen_until = time.monotonic() + seconds
            self.kills["stopped for long"] += 1

    def end(self) -> None:
        """SIGTERM, as people end it; a fault where it does not end well."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                code = self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                code = self.process.wait()
            if code:
                self.faults.append(f"{self.name} ended with {code} when it was told to stop")

    def _last_words(self) -> str:
        return "\n".join((self.folder / f"{self.name}.log").read_text("utf-8", "replace").splitlines()[-2:])

    def _bury(self) -> None:
        code = self.process.returncode
        if self.armed and code == KILLED:
            self.kills[self.armed] += 1
        elif not (code == 1 and self.excuse and self.excuse in self._last_words()):
            self.faults.append(f"{self.name} ended by itself with {code}")


@dataclass(frozen=True, slots=True)
class Cast:
    """Who may be killed, in this order: so many schedulers, then workers, then databases."""

    schedulers: int
    workers: int
    databases: int = 0


@dataclass(frozen=True, slots=True)
class Cycle:
    """One kill: of whom, after which pause; `freeze` stops them instead."""

    victims: Sequence[int]
    pause: float
    freeze: bool = False


def schedule(seed: int, cycles: int, cast: Cast, *, longest_pause: float, freezes: float) -> list[Cycle]:
    """The kills of a seed. The only scheduler is never stopped, and a database never."""
    chance, plan = random.Random(seed), []
    for _ in range(cycles):
        victims = _victims(chance, cast)
        pause, freeze = chance.uniform(0.02, longest_pause), chance.random() < freezes
        may_freeze = min(victims) > 0 or cast.schedulers > 1
        plan.append(Cycle(victims, pause, freeze and may_freeze and max(victims) < cast.schedulers + cast.workers))
    return plan


def _victims(chance: random.Random, cast: Cast) -> Sequence[int]:
    if cast.databases and chance.random() < 0.1:
        return [cast.schedulers + cast.workers + chance.randrange(cast.databases)]
    if chance.random() >= 0.35:
        return [chance.randint(cast.schedulers, cast.schedulers + cast.workers - 1)]
    if cast.schedulers == 1:
        return [0]
    # One of them, most often; some; all.
    return chance.sample(range(cast.schedulers), chance.choice([1, 1, 1, chance.randint(2, cast.schedulers)]))


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
