"""What is measured, and what the measured values of a run come to."""

from __future__ import annotations

import fnmatch
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that can be measured: its key ("batched.inline"), what it is in words, and its unit."""

    key: str
    what: str
    unit: str


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how large one measurement is."""

    #: Only the essentials, in a few minutes.
    quick: bool = False
    #: About how long one throughput measurement takes.
    seconds: float = 3.0
    #: The share of the usual sizes: 1.0 queues a million jobs where the document says a million.
    size: float = 1.0

    def count(self, usual: int, least: int = 1) -> int:
        """So many of what there is usually `usual` of."""
        return max(least, round(usual * self.size))


@dataclass(frozen=True, slots=True)
class Figure:
    """One value that was measured once, and how many cores strangers used meanwhile."""

    key: str
    value: float
    round: int
    strangers: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A measure's values in all rounds of a run."""

    measure: Measure
    values: tuple[float, ...]
    #: Cores that other programs of the machine used meanwhile (median).
    strangers: float = 0.0

    @property
    def key(self) -> str:
        """The measure's."""
        return self.measure.key

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The largest value."""
        return max(self.values)

    @property
    def runs(self) -> int:
        """How often it was measured."""
        return len(self.values)


def rows_of(measures: Iterable[Measure], figures: Iterable[Figure]) -> list[Row]:
    """A row for each measure that has values, in the order of the measures."""
    seen: dict[str, list[Figure]] = {}
    for figure in figures:
        seen.setdefault(figure.key, []).append(figure)
    return [
        Row(
            measure,
            tuple(figure.value for figure in seen[measure.key]),
            statistics.median(figure.strangers for figure in seen[measure.key]),
        )
        for measure in measures
        if measure.key in seen
    ]


def matching(rows: Mapping[str, Row], patterns: Iterable[str]) -> list[Row]:
    """The rows whose key is or fits one of the patterns ("peer.*.batched"), in the order of the patterns."""
    return [row for pattern in patterns for key, row in rows.items() if fnmatch.fnmatchcase(key, pattern)]


def best(rows: Iterable[Row]) -> Row | None:
    """The quickest: the highest rate, or of times the shortest; None of none."""
    candidates = list(rows)
    if not candidates:
        return None
    pick = max if candidates[0].measure.unit.endswith("/s") else min
    return pick(candidates, key=lambda row: row.median)


def percentile(values: Iterable[float], share: float) -> float:
    """The value that this share of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
