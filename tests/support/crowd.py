"""All clients of a run: those who submit, steer, watch and follow while schedulers come and go; and what they heard."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from threading import Thread

from support import stored
from support.checker import violations
from support.followers import Follower
from support.history import History, Ran, Stored
from support.killing import until
from support.submitters import Gauge, Observer, Shared, Submitter, Watcher
from towpath import Client
from towpath.errors import TowpathError

SUBMITTERS = 3
WATCHERS = 2
FOLLOWERS = 2
BACKLOG = 150
# So many jobs at least are new between two kills.
FRESH = 20
SETTLED_SECONDS = 120.0
# What the workers of a run need.
HANDLERS = ("--handlers", "support.recorded", "--allow", "recorded.run", "--log-level", "warning")


class Crowd:
    """They begin together, and end when all that they asked for is over."""

    def __init__(self, folder: Path, address: str, token: str, seed: int, batch: int) -> None:
        self._folder = folder
        self._seed = seed
        self._runs = folder / "runs"
        self._runs.touch()
        self.shared = Shared(address, token, str(self._runs), History(), BACKLOG)
        self._submitters = [Submitter(self.shared, f"s{number}", seed, batch) for number in range(SUBMITTERS)]
        watchers = [Watcher(self.shared, f"w{number}", seed) for number in range(WATCHERS)]
        followers = [Follower(self.shared, f"f{number}", seed) for number in range(FOLLOWERS)]
        self._threads = _threads([*self._submitters, Gauge(self.shared, "gauge", seed), *watchers])
        self._following = _threads(followers)

    def start(self) -> None:
        """Let them begin."""
        for thread in (*self._threads, *self._following):
            thread.start()

    def progress(self) -> tuple[int, int]:
        """Jobs acknowledged, and how much handlers wrote."""
        return len(self.shared.history.acknowledged), self._runs.stat().st_size

    def want(self, jobs: int) -> None:
        """Let them submit until so many are acknowledged, and some more in any case."""
        self.shared.budget = max(jobs, len(self.shared.history.acknowledged)) + FRESH

    def settle(self) -> None:
        """Let everything come to its end, while nothing else happens."""
        self.shared.stop.set()
        for thread in self._threads[:SUBMITTERS]:
            thread.join(SETTLED_SECONDS)
        with Client(self.shared.address, self.shared.token, timeout=SETTLED_SECONDS) as client:
            for job_id in sorted(self.shared.paused):
                until(lambda job_id=job_id: self._submitters[0].steer(client, job_id, "resume"), SETTLED_SECONDS)  # type: ignore[misc]
            until(lambda: not client.stats().active_count, SETTLED_SECONDS)
            for thread in self._threads[SUBMITTERS:]:
                thread.join(SETTLED_SECONDS)
            try:
                self.shared.history.listed += stored.listed(client)
            except TowpathError as error:
                self.shared.faults.append(f"the jobs could not be listed at the end: {error!r}")
        self.shared.ends = {job.job_id: job.revision for job in self.shared.history.listed}
        for thread in self._following:
            thread.join(SETTLED_SECONDS)
        every = (*self._threads, *self._following)
        self.shared.faults += [f"{one.name} hangs" for one in every if one.is_alive()]

    def broken(self, jobs: Sequence[Stored], faults: Sequence[str] = ()) -> list[str]:
        """All that is wrong, beginning with the faults; `jobs` are those in the store."""
        history = self.shared.history
        history.stored += jobs
        lines = self._runs.read_text(encoding="utf-8").splitlines()
        history.ran += [Ran(job_id, int(attempt), name, body) for job_id, attempt, name, body in map(str.split, lines)]
        return [*self.shared.faults, *faults, *map(str, violations(history))]

    def keep(self, broken: Sequence[str]) -> Path:
        """Put the histories and the logs where nobody removes them."""
        kept = Path(__file__).resolve().parents[2] / ".towpath" / "violations" / f"seed-{self._seed}-{time.time_ns()}"
        shutil.copytree(self._folder, kept, ignore=shutil.ignore_patterns("work", "config"))
        history = self.shared.history
        for one in fields(history):
            lines = [json.dumps(asdict(record)) for record in getattr(history, one.name)]
            (kept / f"{one.name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        (kept / "broken.txt").write_text("\n".join(broken) + "\n", encoding="utf-8")
        return kept


def _threads(observers: Sequence[Observer]) -> list[Thread]:
    return [Thread(target=one.work, name=one.name, daemon=True) for one in observers]
