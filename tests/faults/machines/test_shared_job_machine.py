"""The commands of the job machine over stores that schedulers share: by one, and by two that are one to all."""

from __future__ import annotations

import pytest

from support.machines import running
from support.machines import shared_job_machine as machines
from support.machines.job_machine import JobMachine, run_job_machine

# It may have to look for the shortest script.
pytestmark = pytest.mark.timeout(600 * running.TIMES)


def test_two_schedulers_over_one_store_do_as_the_model_does() -> None:
    examples = machines.TWO_EXAMPLES * running.TIMES
    failure = run_job_machine(examples=examples, shrink=True, machine=machines.TwoJobMachine)
    assert failure is None, failure


@pytest.mark.parametrize(
    ("machine", "examples"),
    [
        (machines.PostgresJobMachine, machines.POSTGRES_EXAMPLES),
        (machines.TwoOnPostgresJobMachine, machines.TWO_ON_POSTGRES_EXAMPLES),
    ],
    ids=["one", "two"],
)
def test_schedulers_over_postgresql_do_as_the_model_does(machine: type[JobMachine], examples: int) -> None:
    # Only now: the test is skipped where there is no server.
    from support.postgres_store import place

    place()
    failure = run_job_machine(examples=examples * running.TIMES, shrink=True, machine=machine)
    assert failure is None, failure
