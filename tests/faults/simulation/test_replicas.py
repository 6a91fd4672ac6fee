"""Layer 1 with several schedulers over one store: every promise holds, whichever dies or stands still.

`TOWPATH_SIM_SEEDS=5000` runs more seeds, `TOWPATH_SIM_SEED=123` that one; `TOWPATH_SIM_STORE=postgres` runs those on
PostgreSQL alone.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from support.simulation.world import simulate_on, simulate_replicas

SEEDS = int(os.environ.get("TOWPATH_SIM_SEEDS", "40"))
ON_POSTGRES = int(os.environ.get("TOWPATH_SIM_SEEDS", "3"))
STORE = os.environ.get("TOWPATH_SIM_STORE", "")
ONE = os.environ.get("TOWPATH_SIM_SEED")
AT_ONCE = 10
# Enough happens in the nights from here on.
FIRST = 40
CHUNKS = (
    [range(int(ONE), int(ONE) + 1)] if ONE else [range(at, at + AT_ONCE) for at in range(FIRST, FIRST + SEEDS, AT_ONCE)]
)

_seen: Counter[str] = Counter()
_run: set[int] = set()


@pytest.mark.skipif(STORE == "postgres", reason="only PostgreSQL is asked for")
@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds[0]} to {seeds[-1]}")
def test_every_promise_holds_among_several_schedulers(seeds: range) -> None:
    for seed in seeds:
        outcome = simulate_replicas(seed)
        if outcome.violation is not None:
            pytest.fail(str(outcome), pytrace=False)
        _seen.update(outcome.seen)
        _run.add(seed)


@pytest.mark.skipif(ONE is not None and STORE != "postgres", reason="another store's seed is asked for")
@pytest.mark.parametrize("seed", [int(ONE)] if ONE else range(ON_POSTGRES))
def test_every_promise_holds_on_postgres(seed: int) -> None:
    # Only now: it needs the driver, and a test that cannot have it is skipped.
    from support.simulation.postgres import PostgresGround

    outcome = simulate_on(PostgresGround(), seed)
    if outcome.violation is not None:
        pytest.fail(str(outcome), pytrace=False)


def test_the_nights_were_bad_enough() -> None:
    if len(_run) < 40:
        pytest.skip(f"only {len(_run)} seeds were run")
    # What makes several schedulers different from one has happened, many times.
    happened = ("moved", "adopted", "taken for dead", "resumed elsewhere", "contended", "notice lost", "held back")
    assert {what: _seen[what] for what in happened if _seen[what] < 5} == {}
