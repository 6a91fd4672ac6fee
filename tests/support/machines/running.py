"""How a machine is run: a fixed seed, no database, and its failure as a text that a person can read."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

SEED = int(os.environ.get("TOWPATH_MACHINES_SEED", "1"))
# `make soak` runs so many times as many.
TIMES = int(os.environ.get("TOWPATH_SOAK_EXAMPLES", "1"))


def failure_of(
    machine: type[RuleBasedStateMachine], number: int, examples: int, *, steps: int, shrink: bool
) -> str | None:
    """What went wrong in so many random scripts, the script included; None where nothing did.

    The same seed gives the same scripts. `shrink` takes longer and gives the shortest script that goes wrong.
    """
    # A class of its own: the seed is kept in an attribute.
    seeded: type[RuleBasedStateMachine] = seed(number)(type(machine.__name__, (machine,), {}))
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        phases=phases,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seeded, settings=profile)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return _told(error, number)
    return None


def _told(error: Exception, number: int) -> str:
    # The script of steps comes with the error as a note.
    where = traceback.format_exception(error)
    return "".join([*where, f"(again with TOWPATH_MACHINES_SEED={number})\n"])


def agree(what: str, wanted: object, given: Mapping[str, object]) -> None:
    """All of them give what is wanted; else an AssertionError that says who gave what."""
    different = {name: one for name, one in given.items() if one != wanted}
    if different:
        told = "\n".join(f"  {name}: {one!r}" for name, one in {"model": wanted, **different}.items())
        raise AssertionError(f"{what}\n{told}")
