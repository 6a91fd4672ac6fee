"""Mistakes that somebody could make in the scheduler: each is put into it while a test looks whether it is noticed.

None of them is a switch in the product: they replace its parts from outside. A new promise comes with its bug, in a
module of support/seeding.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from support.seeding import dispatch, leases, replicas, rights, rules, storing
from support.seeding.table import BUGS, Bug, Caught, caught

__all__ = ["BUGS", "Bug", "Caught", "caught", "dispatch", "leases", "put", "replicas", "rights", "rules", "storing"]


def put(name: str) -> AbstractContextManager[None]:
    """Put a mistake into the scheduler."""
    return BUGS[name].put()
