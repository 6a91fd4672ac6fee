"""Random verbs on every store: all of them answer as a few dicts do."""

from __future__ import annotations

import pytest

from support.machines import running
from support.machines.store_machine import EXAMPLES, run_store_machine


# It may have to look for the shortest script.
@pytest.mark.timeout(600 * running.TIMES)
def test_all_stores_answer_as_the_model_does() -> None:
    failure = run_store_machine(examples=EXAMPLES * running.TIMES, shrink=True)
    assert failure is None, failure
