"""Layer 2 with many seeds: random commands, on every store and on the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support import soak
from support.machines import job_machine, store_machine

FIRST_SEED = 1_000_000


@pytest.mark.parametrize(
    ("promise", "run", "examples"),
    [
        ("every store answers as the model does", store_machine.run_store_machine, store_machine.EXAMPLES),
        ("a job's life is the contract's, on every store", job_machine.run_job_machine, job_machine.EXAMPLES),
    ],
    ids=["store", "job"],
)
def test_random_commands(promise: str, run: Callable[[int, int], str | None], examples: int) -> None:
    with soak.row(promise, "scripts") as row:
        for seed in range(FIRST_SEED, FIRST_SEED + soak.scale("TOWPATH_SOAK_MACHINES")):
            failure = run(seed, examples)
            row.trials += examples
            if failure is not None:
                row.violations += 1
                print(failure)
