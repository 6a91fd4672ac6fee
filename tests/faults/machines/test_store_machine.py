"""Random verbs on every store: all of them answer as a few dicts do."""

from __future__ import annotations

import pytest

from support.machines import running
from support.machines.store_machine import EXAMPLES, SHARED_EXAMPLES, SharedStoreMachine, run_store_machine


# It may have to look for the shortest script.
@pytest.mark.timeout(600 * running.TIMES)
def test_all_stores_answer_as_the_model_does() -> None:
    failure = run_store_machine(examples=EXAMPLES * running.TIMES, shrink=True)
    assert failure is None, failure


@pytest.mark.timeout(600 * running.TIMES)
def test_the_store_that_is_shared_answers_as_the_model_does() -> None:
    # Only now: the test is skipped where there is no server.
    from support.postgres_store import place

    place()
    examples = SHARED_EXAMPLES * running.TIMES
    failure = run_store_machine(examples=examples, shrink=True, machine=SharedStoreMachine)
    assert failure is None, failure
