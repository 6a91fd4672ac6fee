"""The load on PostgreSQL with one scheduler."""

from __future__ import annotations

from bench.figures import Scale
from bench.programs import scratch
from bench.scaling import load
from bench.scaling.places import on_postgres

KEYS = load.keys("one", "PostgreSQL, 1 scheduler", postgres=True)


def measure(scale: Scale) -> dict[str, float]:
    """One scheduler."""
    with scratch() as folder, on_postgres(folder, 1) as place:
        return load.measure("one", place, scale)
