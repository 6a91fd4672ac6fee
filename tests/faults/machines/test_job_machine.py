"""Random commands of submitters, workers and time: schedulers over every store live as the contract's model does."""

from __future__ import annotations

import pytest

from support.machines import running
from support.machines.job_machine import EXAMPLES, run_job_machine


# It may have to look for the shortest script.
@pytest.mark.timeout(600 * running.TIMES)
def test_schedulers_over_all_stores_do_as_the_model_does() -> None:
    failure = run_job_machine(examples=EXAMPLES * running.TIMES, shrink=True)
    assert failure is None, failure
