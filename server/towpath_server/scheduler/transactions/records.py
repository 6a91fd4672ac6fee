"""Keeping small records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towpath_server.core.errors import TowpathError
from towpath_server.core.records import Token
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


def keep_first(store: Store, now: int, items: Sequence[Token]) -> list[Token | TowpathError]:
    """Write tokens where there are none with their numbers; what is kept then."""
    store.put(list(items), replace=False)
    kept = {token.token_id: token for token in store.records(Token, [(item.token_id,) for item in items])}
    return [kept[item.token_id] for item in items]


KEEP = Verb("keep", keep)
KEEP_FIRST = Verb("keep first", keep_first)
