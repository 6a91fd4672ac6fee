"""What waits for the store's threads, and what of it goes into one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from towpath_server.store.base import Store
from towpath_server.store.verb import Verb

TaskT = TypeVar("TaskT", "Write", "Read")

# Bytes of one commit: what is on its way for longer than a second, a shared store takes for dead.
HEAVY = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """A verb for the writer, and where its outcome goes."""

    verb: Verb[Any, Any]
    item: Any
    answer: asyncio.Future[Any]
    weight: int = 0

    @property
    def is_small(self) -> bool:
        """Whether it may go ahead of larger ones."""
        return 0 < self.weight <= self.verb.small

    @property
    def is_large(self) -> bool:
        """Whether small ones may go ahead of it."""
        return 0 < self.verb.small < self.weight


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """The same for a reader, which has one at a time."""

    run: Callable[[Store], Any]
    answer: asyncio.Future[Any]
    weight: int = 0
    is_small = is_large = False


def take(tasks: SimpleQueue[TaskT | None], most: int) -> tuple[list[TaskT], bool]:
    """All that is pending, at least one and not much more than `HEAVY`, and whether more may come."""
    group: list[TaskT] = []
    weight = 0
    task = tasks.get()
    with suppress(Empty):
        while task is not None:
            group.append(task)
            weight += task.weight
            if len(group) == most or weight >= HEAVY:
                break
            task = tasks.get_nowait()
    return group, task is not None


def parts(group: list[TaskT]) -> list[list[TaskT]]:
    """What is committed one after the other: small items need not wait for large ones that came with them."""
    if not any(task.is_large for task in group):
        return [group] if group else []
    small = [task for task in group if task.is_small]
    return [small, [task for task in group if not task.is_small]] if small else [group]


def by_verb(group: list[Write]) -> Iterable[list[Write]]:
    """The writes of each verb together, by rank, then in order of arrival."""
    together: dict[Verb[Any, Any], list[Write]] = {}
    for write in group:
        together.setdefault(write.verb, []).append(write)
    return sorted(together.values(), key=lambda writes: writes[0].verb.rank)
