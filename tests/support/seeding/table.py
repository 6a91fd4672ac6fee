"""The table of seeded bugs, and how one gets into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Put = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake: its name, what is wrong with it, and how it is put into the scheduler."""

    name: str
    description: str
    put: Put
    # Where a rare one is noticed soon.
    first_seed: int = 0
    # Whether it shows among several schedulers only.
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Caught:
    """What has noticed a mistake, and after how many tries."""

    name: str
    layer: str
    what: str
    after: int


BUGS: dict[str, Bug] = {}
caught: list[Caught] = []


def bug(
    description: str, *, first_seed: int = 0, shared: bool = False
) -> Callable[[Callable[[], Iterator[None]]], Put]:
    """Adds a mistake to the table, by its function's name."""

    def add(work: Callable[[], Iterator[None]]) -> Put:
        put = contextmanager(work)
        BUGS[work.__name__] = Bug(work.__name__, description, put, first_seed, shared)
        return put

    return add
