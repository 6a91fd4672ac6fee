"""Mistakes put into the scheduler on purpose: the simulation must notice every one of them.

Where one is not noticed, it is the suite that needs work. The table at the end says what noticed each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import seeded_bugs
from support.seeded_bugs import BUGS, Caught
from support.simulation.store import fast_folder
from support.simulation.world import simulate, simulate_replicas

# Most are noticed within five.
MOST_SEEDS = 250


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with fast_folder() as path:
        yield path


@pytest.mark.parametrize("name", BUGS)
def test_the_simulation_notices(name: str, folder: Path) -> None:
    bug = BUGS[name]
    with seeded_bugs.put(name):
        for number, seed in enumerate(range(bug.first_seed, bug.first_seed + MOST_SEEDS), start=1):
            outcome = simulate_replicas(seed) if bug.shared else simulate(seed, folder)
            if outcome.violation is not None:
                seeded_bugs.caught.append(Caught(name, "simulation", outcome.violation.invariant, number))
                return
    pytest.fail(f"{bug.description}: not noticed in {MOST_SEEDS} seeds", pytrace=False)


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 18
    assert sum(bug.shared for bug in BUGS.values()) >= 10
