"""Keeping small records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towpath_server.core.errors import TowpathError
from towpath_server.store.base import Record, Store
from towpath_server.store.committer import Verb


@dataclass(frozen=True, slots=True)
class Keep:
    """Records to add or replace, and others to remove."""

    put: tuple[Record, ...] = ()
    remove: tuple[Record, ...] = ()


def keep(store: Store, now: int, items: Sequence[Keep]) -> list[TowpathError | None]:
    """Write them in order."""
    for item in items:
        if item.put:
            store.put(list(item.put))
        if item.remove:
            store.remove(list(item.remove))
    return [None for _ in items]


KEEP = Verb("keep", keep)
