"""Layer 1 for an hour: as many nights as there are in it, on all cores, each drawn from its own seed.

TOWPATH_SOAK_SEEDS says how many seeds, TOWPATH_SOAK_SIMULATION_SECONDS after how long to stop all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from itertools import islice
from multiprocessing import get_context

import pytest

from support import soak
from support.simulation.replay import run_seeds

AT_ONCE = 50
# The seeds of `make test` come first: these are others.
FIRST_SEED = 1_000_000


@pytest.mark.parametrize(
    ("shared", "title"),
    [
        (False, "every promise holds after every step of a simulated night"),
        (True, "the same with several schedulers that share a store"),
    ],
)
def test_every_promise_holds_through_all_nights(shared: bool, title: str) -> None:
    seeds, cores = soak.scale("TOWPATH_SOAK_SEEDS"), os.cpu_count() or 1
    end = time.monotonic() + soak.scale("TOWPATH_SOAK_SIMULATION_SECONDS")
    chunks: Iterator[range] = (
        range(at, min(at + AT_ONCE, FIRST_SEED + seeds)) for at in range(FIRST_SEED, FIRST_SEED + seeds, AT_ONCE)
    )
    steps, wrong = 0, list[str]()
    with (
        soak.row(title, "seeds") as row,
        ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool,
    ):
        running: set[Future[tuple[int, int, list[str]]]] = {
            pool.submit(partial(run_seeds, shared=shared), one) for one in islice(chunks, 2 * cores)
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                trials, taken, found = one.result()
                row.trials += trials
                row.violations += len(found)
                steps += taken
                wrong += found
            if time.monotonic() < end:
                running |= {
                    pool.submit(partial(run_seeds, shared=shared), chunk) for chunk in islice(chunks, len(done))
                }
        print("\n\n".join(wrong[:5]))
        row.note = f"{steps:,} steps on {cores} cores"
