"""The load on the embedded store."""

from __future__ import annotations

from bench.figures import Scale
from bench.programs import scratch
from bench.scaling import load
from bench.scaling.places import on_sqlite

KEYS = load.keys("sqlite", "SQLite", postgres=False)


def measure(scale: Scale) -> dict[str, float]:
    """One scheduler."""
    with scratch() as folder, on_sqlite(folder) as place:
        return load.measure("sqlite", place, scale)
