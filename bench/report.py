"""What a run says: its rows with ratios, and its targets with what became of each; kept as JSON, shown as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Measure, Row, best, matching
from bench.peers.peers import BATCHED, PIPELINED
from bench.targets import TARGETS, Outcome, Target, Verdict

#: What Towpath's rows are held against: the peers (the best of them), and the toy's row.
ONE_BY_ONE = ("peer.*.single", f"peer.*.{PIPELINED}")
MANY = (*ONE_BY_ONE, f"peer.*.{BATCHED}")
BESIDE: Mapping[str, tuple[tuple[str, ...], str]] = {
    "batched.inline": (MANY, "toy.batched"),
    "batched.bare": (MANY, "toy.batched"),
    "map.inline": (MANY, "toy.batched"),
    "single.client": (ONE_BY_ONE, "toy.single"),
    "single.rpc": (ONE_BY_ONE, "toy.single"),
    "children.map": (("peer.celery.single",), ""),
    "idle.inline.p50": (("peer.*.p50",), "toy.p50"),
    "idle.inline.p99": (("peer.*.p99",), "toy.p99"),
    "idle.child.p50": (("peer.*.p50",), "toy.p50"),
    "idle.child.p99": (("peer.*.p99",), "toy.p99"),
}


@dataclass(frozen=True, slots=True)
class Report:
    """A run's figures."""

    #: The machine, when it began, how many rounds.
    about: Mapping[str, Any]
    rows: tuple[Row, ...]
    #: Why a peer or a part has no figures, by name.
    left_out: Mapping[str, str]

    @property
    def by_key(self) -> dict[str, Row]:
        """The rows by key."""
        return {row.key: row for row in self.rows}

    def verdicts(self) -> list[tuple[Target, Verdict]]:
        """Every target, in the order of the document."""
        rows = self.by_key
        return [(target, target.judge(rows)) for target in TARGETS]

    def beside(self, row: Row) -> tuple[tuple[Row, float] | None, float | None]:
        """The best peer's row with the ratio to it, and the ratio to the toy, where there are such."""
        peers, toy = BESIDE.get(row.key, ((), ""))
        rows = self.by_key
        peer = best(matching(rows, peers))
        toys = rows.get(toy)
        return (peer, row.median / peer.median) if peer else None, row.median / toys.median if toys else None

    def to_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "about": dict(self.about),
            "rows": [
                {
                    "key": row.key,
                    "what": row.measure.what,
                    "unit": row.measure.unit,
                    "median": row.median,
                    "least": row.least,
                    "most": row.most,
                    "runs": row.runs,
                    "values": list(row.values),
                    "strangers": row.strangers,
                }
                for row in self.rows
            ],
            "targets": [
                {
                    "what": target.what,
                    "target": target.text,
                    "measured": verdict.measured,
                    "outcome": verdict.outcome.value,
                }
                for target, verdict in self.verdicts()
            ],
            "left_out": dict(self.left_out),
        }

    @classmethod
    def read(cls, file: Path) -> Report:
        """From a file that `to_json` filled; targets are judged anew."""
        kept = json.loads(file.read_text(encoding="utf-8"))
        rows = (
            Row(Measure(row["key"], row["what"], row["unit"]), tuple(row["values"]), row["strangers"])
            for row in kept["rows"]
        )
        return cls(kept["about"], tuple(rows), kept["left_out"])

    def heading(self) -> str:
        """When and where."""
        return f"{self.about['machine']}; {self.about['began']}; rounds in alternation: {self.about['repeats']}"


def summary(verdicts: Sequence[tuple[Target, Verdict]]) -> str:
    """How many were met, missed, not measured."""
    outcomes = [verdict.outcome for _, verdict in verdicts]
    return ", ".join(f"{outcomes.count(outcome)} {outcome.value}" for outcome in Outcome)
