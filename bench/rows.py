"""All that is measured, as one list of parts.

A part is a module, cheap to import, with `KEYS: tuple[Measure, ...]` and `measure(scale: Scale) -> dict[str, float]`,
which measures each of its keys once. It runs in a process of its own, so it may leave nothing but its figures. It may
leave out a key that cannot be measured here; then the table says so.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from bench.figures import Measure, Scale
from bench.peers.peers import POSTGRES


class Measured(Protocol):
    """What a round goes through: parts of Towpath, the toy, and the peers."""

    @property
    def name(self) -> str: ...
    @property
    def quick(self) -> bool: ...
    @property
    def rounds(self) -> int: ...
    @property
    def limit(self) -> float: ...
    @property
    def service(self) -> str: ...
    def measures(self) -> tuple[Measure, ...]: ...
    def command(self, scale: Scale) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A measuring module, and when it runs."""

    module: str
    #: Also in a quick run.
    quick: bool = False
    #: At most so many rounds: what takes minutes is not measured five times.
    rounds: int = 1_000
    #: After so many seconds it is ended, and the table lacks its figures of that round.
    limit: float = 60.0
    #: The server that it needs.
    service: str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.module.removeprefix("bench.")

    def measures(self) -> tuple[Measure, ...]:
        """What it measures."""
        keys: tuple[Measure, ...] = importlib.import_module(self.module).KEYS
        return keys

    def command(self, scale: Scale) -> Sequence[str]:
        """What measures it once."""
        return [sys.executable, "-m", "bench.part", self.module, json.dumps(asdict(scale))]


PARTS: tuple[Part, ...] = (
    # The essentials, in the order in which each round measures them.
    Part("bench.product.inline", quick=True),
    Part("bench.toy", quick=True),
    Part("bench.product.children", quick=True),
    Part("bench.product.bare"),
    # What one tenant's flood costs another.
    Part("bench.flood", quick=True, rounds=3, limit=300),
    # How figures grow.
    Part("bench.growth.curves", rounds=3, limit=400),
    Part("bench.growth.parked", rounds=3, limit=300),
    Part("bench.growth.start", rounds=5, limit=300),
    Part("bench.growth.overhead", rounds=3, limit=300),
    Part("bench.growth.memory", rounds=1, limit=600),
    # The first run fills five stores with a million jobs each.
    Part("bench.growth.depth", rounds=3, limit=1_800),
)
#: Past one machine: a run of its own, with the peers that it is held against, for a page of its own.
SCALING: tuple[Part, ...] = (
    Part("bench.scaling.sqlite", quick=True, limit=120),
    Part("bench.scaling.one", quick=True, limit=120, service=POSTGRES),
    Part("bench.scaling.three", quick=True, limit=120, service=POSTGRES),
    # These fill a database with millions of jobs.
    Part("bench.scaling.depth", rounds=1, limit=1_200, service=POSTGRES),
    Part("bench.scaling.retention", rounds=1, limit=600, service=POSTGRES),
)
