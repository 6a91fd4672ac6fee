"""The load on PostgreSQL with three schedulers."""

from __future__ import annotations

from bench.figures import Scale
from bench.programs import scratch
from bench.scaling import load
from bench.scaling.places import on_postgres

KEYS = load.keys("three", "PostgreSQL, 3 schedulers", postgres=True)
REPLICAS = 3


def measure(scale: Scale) -> dict[str, float]:
    """Three schedulers; each has a submitter and a worker."""
    with scratch() as folder, on_postgres(folder, REPLICAS) as place:
        return load.measure("three", place, scale)
