"""A run: all that is asked for, round after round in alternation; each measurement is kept as soon as it is there."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.figures import Figure, Row, Scale, rows_of
from bench.programs import HOME, ROOT, scratch
from bench.rows import Measured
from bench.services import guarded, last_words
from bench.strangers import Strangers, wait_for_quiet

RESULTS = HOME / "results"


@dataclass(slots=True)
class Run:
    """What is known of a run, in memory and in its file: one JSON line for the run, then one for each measurement."""

    file: Path
    about: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    #: What was measured, or failed: (round, name).
    done: set[tuple[int, str]] = field(default_factory=set)
    #: Why a part or a peer could not be measured: a reason for each round that failed.
    failures: dict[str, list[str]] = field(default_factory=dict)
    #: Why peers could not even be set up.
    not_set_up: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, *, quick: bool, repeats: int) -> Run:
        """A new run of this machine."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        about = {
            "machine": machine(),
            "began": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "quick": quick,
            "repeats": repeats,
        }
        run = cls(RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl", about)
        run._append(about)
        return run

    @classmethod
    def load(cls, file: Path) -> Run:
        """A run with all that its file says."""
        about, *lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        run = cls(file, about)
        for line in lines:
            run._take(line)
        return run

    @classmethod
    def newest(cls) -> Run:
        """The newest run. FileNotFoundError when there is none."""
        files = sorted(RESULTS.glob("*.jsonl"))
        if not files:
            raise FileNotFoundError(f"There is no run in {RESULTS}: begin one without --resume.")
        return cls.load(files[-1])

    def set_up(self, versions: dict[str, str], left_out: dict[str, str]) -> None:
        """Keep which peers are measured, and why others are not."""
        self._keep({"versions": versions, "left_out": left_out})

    def add(self, number: int, name: str, figures: dict[str, float], seconds: float, strangers: float) -> None:
        """Keep a measurement, how long it took, and how many cores strangers used meanwhile."""
        line = {"round": number, "name": name, "seconds": round(seconds, 1), "strangers": round(strangers, 2)}
        self._keep({**line, "figures": figures})

    def fail(self, number: int, name: str, reason: str) -> None:
        """Keep that it could not be measured, and why."""
        self._keep({"round": number, "name": name, "failure": reason})

    def rows(self, parts: Sequence[Measured]) -> list[Row]:
        """The medians so far, in the order of the parts."""
        return rows_of((measure for part in parts for measure in part.measures()), self.figures)

    def left_out(self) -> dict[str, str]:
        """What was not measured, or not as often as it should, and why (the last reason)."""
        total = self.about["repeats"]
        failed = {name: f"{len(why)} of {total} rounds failed: {why[-1]}" for name, why in self.failures.items()}
        return self.not_set_up | failed

    def _keep(self, line: dict[str, Any]) -> None:
        self._append(line)
        self._take(line)

    def _append(self, line: dict[str, Any]) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _take(self, line: dict[str, Any]) -> None:
        if "left_out" in line:
            self.about = {**self.about, "versions": self.about.get("versions", {}) | line["versions"]}
            self.not_set_up |= line["left_out"]
            return
        self.done.add((line["round"], line["name"]))
        if "failure" in line:
            self.failures.setdefault(line["name"], []).append(line["failure"])
            return
        self.figures += [Figure(key, value, line["round"], line["strangers"]) for key, value in line["figures"].items()]


def go(
    run: Run, todo: Sequence[tuple[int, Measured]], scale: Scale, environment: dict[str, str]
) -> Iterator[tuple[int, str]]:
    """Measure each of these; says round and name before each."""
    for number, part in todo:
        yield number, part.name
        wait_for_quiet()
        strangers, begun = Strangers(), time.perf_counter()
        try:
            figures = measure(part, scale, environment)
        except (RuntimeError, OSError) as error:
            run.fail(number, part.name, str(error))
        else:
            run.add(number, part.name, figures, time.perf_counter() - begun, strangers.cores())


def rounds(parts: Sequence[Measured], repeats: int) -> Iterator[tuple[int, Measured]]:
    """Each part once in each round, as long as it takes part."""
    for number in range(repeats):
        yield from ((number, part) for part in parts if number < part.rounds)


def measure(part: Measured, scale: Scale, environment: dict[str, str]) -> dict[str, float]:
    """One measurement in a process of its own, of which nothing is left when it ends. RuntimeError when it fails."""
    with scratch() as folder, (folder / "said").open("w+") as said, (folder / "log").open("w") as log:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        surroundings = {**os.environ, **environment, "PYTHONPATH": path, "BENCH_FOLDER": str(folder)}
        with guarded(part.command(scale), cwd=ROOT, env=surroundings, stdout=said, stderr=log) as process:
            try:
                process.wait(part.limit)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"it took longer than {part.limit:.0f} s") from None
        said.seek(0)
        with suppress(IndexError, ValueError):
            figures: dict[str, float] = json.loads(said.readlines()[-1])
            return figures
        raise RuntimeError(last_words(folder / "log"))


def machine() -> str:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {system}"
