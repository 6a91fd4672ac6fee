"""Layer 1: many bad nights, each drawn from a seed, and every promise looked at after every step.

`TOWPATH_SIM_SEEDS=5000` runs more of them, `TOWPATH_SIM_SEED=123` that one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.simulation.store import fast_folder
from support.simulation.world import simulate

SEEDS = int(os.environ.get("TOWPATH_SIM_SEEDS", "500"))
ONE = os.environ.get("TOWPATH_SIM_SEED")
AT_ONCE = 25
CHUNKS = [range(int(ONE), int(ONE) + 1)] if ONE else [range(at, at + AT_ONCE) for at in range(0, SEEDS, AT_ONCE)]

# Over all seeds, each of these has happened many times: else the nights were not bad enough.
MOVES = (
    ("-", "SCHEDULED"),
    ("-", "QUEUED"),
    ("-", "LEASED"),
    ("SCHEDULED", "QUEUED"),
    ("QUEUED", "LEASED"),
    ("LEASED", "RUNNING"),
    ("LEASED", "QUEUED"),
    ("RUNNING", "QUEUED"),
    ("QUEUED", "RUNNING"),
    ("RUNNING", "SCHEDULED"),
    ("RUNNING", "CANCELLING"),
    ("CANCELLING", "CANCELLED"),
    ("CANCELLING", "SUCCEEDED"),
    ("RUNNING", "PAUSED"),
    ("PAUSED", "QUEUED"),
    ("RUNNING", "SUCCEEDED"),
    ("RUNNING", "FAILED"),
    ("RUNNING", "TIMED_OUT"),
    ("QUEUED", "TIMED_OUT"),
    ("SUCCEEDED", "QUEUED"),
    ("FAILED", "QUEUED"),
    ("SUCCEEDED", "-"),
)
HAPPENED = ("shared", "removed", "refused", "held back by a quota")
_moves: Counter[tuple[str, str]] = Counter()
_seen: Counter[str] = Counter()
_run: set[int] = set()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with fast_folder() as path:
        yield path


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds[0]} to {seeds[-1]}")
def test_every_promise_holds_through_the_night(seeds: range, folder: Path) -> None:
    for seed in seeds:
        outcome = simulate(seed, folder)
        if outcome.violation is not None:
            pytest.fail(str(outcome), pytrace=False)
        _moves.update(outcome.moves)
        _seen.update(outcome.seen)
        _run.add(seed)


def test_the_nights_were_bad_enough() -> None:
    if len(_run) < 400:
        pytest.skip(f"only {len(_run)} seeds were run")
    assert {move: _moves[move] for move in MOVES if _moves[move] < 5} == {}
    assert {what: _seen[what] for what in HAPPENED if _seen[what] < 20} == {}
