"""The targets of the performance document, as data, and how each is judged by a run's rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from bench.figures import Row, best, matching
from bench.peers.peers import NOTHING, POSTGRES, REDIS, SPECS


class Outcome(Enum):
    """What became of a target."""

    MET = "met"
    MISSED = "missed"
    UNMEASURED = "not measured in this run"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target's outcome, and the measured value in words."""

    outcome: Outcome
    measured: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A line of the document: the text, and one way to judge it.

    Alone, `key`'s median is held against `at_least` or `at_most`; with `against` (keys or patterns) its ratio to the
    best of those rows is. With `curve` (keys in order) there is no cliff when no figure is more than `drop` times
    slower than the one before.
    """

    key: str
    what: str
    text: str
    at_least: float = -math.inf
    at_most: float = math.inf
    against: tuple[str, ...] = ()
    curve: tuple[str, ...] = ()
    drop: float = 2.0

    def judge(self, rows: Mapping[str, Row]) -> Verdict:
        """Met or missed; not measured where a row that it takes is missing."""
        if self.curve:
            return self._judge_curve(rows)
        row = rows.get(self.key)
        if row is None:
            return Verdict(Outcome.UNMEASURED)
        value, words = row.median, f"{number(row.median)} {row.measure.unit}"
        if self.against:
            other = best(matching(rows, self.against))
            if other is None:
                return Verdict(Outcome.UNMEASURED, words)
            value = row.median / other.median
            words += f", {number(value)}x {other.measure.what} ({number(other.median)})"
        return Verdict(Outcome.MET if self.at_least <= value <= self.at_most else Outcome.MISSED, words)

    def _judge_curve(self, rows: Mapping[str, Row]) -> Verdict:
        found = [rows[key] for key in self.curve if key in rows]
        words = " .. ".join(number(row.median) for row in found)
        if len(found) < len(self.curve):
            return Verdict(Outcome.UNMEASURED, words)
        words += f" {found[0].measure.unit}"
        steep = any(before.median > after.median * self.drop for before, after in pairwise(found))
        return Verdict(Outcome.MISSED if steep else Outcome.MET, words)


def number(value: float) -> str:
    """Readable at any size: 12,345, 42.5, 0.071."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}"


THROUGHPUT = "durable (fsync) no-op throughput, batched, inline handlers"
PIPELINED = "one by one from one client that pipelines"
LATENCY = "latency idle, submit -> result in the submitter's hand, durable"
WAKE = "long-poll wake-up with 10,000 parked workers: create acknowledged -> handler entered"
DEPTH = "claim cost at 1M queued against 1k queued"

RATES = ("single", "batched", "pipelined")


def of(service: Iterable[str], *figures: str) -> tuple[str, ...]:
    """The keys of these figures of all peers that run on one of these services."""
    keys = (measure.key for spec in SPECS if spec.service in service for measure in spec.measures())
    return tuple(key for key in keys if key.rpartition(".")[2] in figures)


TARGETS = (
    Target("batched.inline", THROUGHPUT, "20x the best redis peer", at_least=20, against=of([REDIS], *RATES)),
    Target(
        "batched.inline",
        THROUGHPUT,
        "5x the best PostgreSQL peer's batches",
        at_least=5,
        against=of([POSTGRES], "batched"),
    ),
    Target("batched.inline", THROUGHPUT, "at least 60 % of the toy", at_least=0.6, against=("toy.batched",)),
    Target(
        "single.client",
        PIPELINED,
        "4x the best peer",
        at_least=4,
        against=of([REDIS, POSTGRES, NOTHING], "single", "pipelined"),
    ),
    Target(
        "children.map",
        "with isolated warm child processes",
        "3x celery prefork",
        at_least=3,
        against=("peer.celery.single",),
    ),
    Target(
        "idle.inline.p50",
        LATENCY,
        "p50 at or under the best peer that is not durable",
        at_most=1,
        against=of([REDIS, NOTHING], "p50"),
    ),
    Target("idle.inline.p99", LATENCY, "p99 at or under it too", at_most=1, against=of([REDIS, NOTHING], "p99")),
    Target("wake.p50", WAKE, "p50 under 3 ms", at_most=3),
    Target("wake.p99", WAKE, "p99 under 6 ms", at_most=6),
    Target("depth.1m", DEPTH, "within 1.5x", at_most=1.5, against=("depth.1k",)),
    Target("depth.1m.lanes", DEPTH, "within 1.5x with 1,000 lanes", at_most=1.5, against=("depth.1k",)),
    Target("depth.1m.tenants", DEPTH, "within 1.5x with 50 tenants", at_most=1.5, against=("depth.1k",)),
    Target(
        "depth.1m.ineligible",
        DEPTH,
        "within 1.5x with 90 % of the queue ineligible",
        at_most=1.5,
        against=("depth.1k",),
    ),
    Target("parked.workers", "parked workers, one poll and one stream each", "10,000", at_least=10_000),
    Target("parked.kib", "parked workers", "under 90 KiB each", at_most=90),
    Target("parked.cpu", "parked workers", "under 1 % CPU idle", at_most=1),
    Target(
        "train.overhead",
        "training through Towpath against xgboost directly, 336,776 rows",
        "within 3 %",
        at_most=3,
    ),
    Target("predict.overhead", "a 100,000-row predict through the client", "within 15 % of a local call", at_most=15),
    Target("start.empty", "`towpath-server` ready on an empty store", "in 1 s", at_most=1),
    Target("start.full", "`towpath-server` ready on a store with 1M jobs", "in 1 s", at_most=1),
    Target("start.help", "`towpath --help`", "0.3 s", at_most=0.3),
    Target("memory.1m", "1M queued jobs: the server's RSS", "under 300 MB", at_most=300),
    Target(
        "growth.payload",
        "jobs/s against payload (1 KB .. 1 MB)",
        "a figure for each, no cliff: never worse than in proportion to the bytes",
        # Ten times the bytes in one step.
        drop=12.0,
        curve=("growth.payload.1k", "growth.payload.10k", "growth.payload.100k", "growth.payload.1m"),
    ),
    Target(
        "growth.workers",
        "jobs/s against workers (1 .. 100)",
        "a figure for each, no cliff: never halved in a step",
        curve=("growth.workers.1", "growth.workers.10", "growth.workers.100"),
    ),
    Target(
        "growth.lanes",
        "jobs/s against lanes (1 .. 10,000)",
        "a figure for each, no cliff: never halved in a step",
        curve=("growth.lanes.1", "growth.lanes.100", "growth.lanes.1k", "growth.lanes.10k"),
    ),
)
