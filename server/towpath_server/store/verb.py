"""What the writer does for many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from towpath_server.core.errors import TowpathError
from towpath_server.store.base import Store

ItemT = TypeVar("ItemT")
OutT = TypeVar("OutT")


def _light(item: object) -> int:
    return 0


# No slots: `Verb[Item, Out](...)` must be able to fail at setting __orig_class__.
@dataclass(frozen=True, eq=False)
class Verb(Generic[ItemT, OutT]):
    """Something that the writer does for many items at once.

    `run(store, now, items)` gives one outcome an item, in order; an outcome that is a `TowpathError` is raised to the
    one who submitted the item. What `run` itself raises undoes the whole group, and then each item is run alone: so
    `run` may be called again for the same items and must change nothing but the store.
    """

    name: str
    run: Callable[[Store, int, Sequence[ItemT]], Sequence[OutT | TowpathError]]
    rank: int = 0
    # The bytes that an item brings, roughly, where they may be many.
    weigh: Callable[[ItemT], int] = _light
    # Where heavier items come at the same time, those up to this weight go ahead of them in a commit of their own.
    # Nothing that was submitted before them may be needed by them: only what does not depend on others may set it.
    small: int = 0
