"""Keeping small records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towpath_server.core.errors import TowpathError
from towpath_server.core.records import AuditEvent, Token
from towpath_server.scheduler.transactions.recording import record
from towpath_server.store.base import Record, Store
from towpath_server.store.committer import Verb


@dataclass(frozen=True, slots=True)
class Keep:
    """Records to add or replace, and others to remove; and what is to be known of it."""

    put: tuple[Record, ...] = ()
    remove: tuple[Record, ...] = ()
    audit: tuple[AuditEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class KeepFirst:
    """A token that is to be the only one with its number; and what is to be known of it."""

    token: Token
    audit: AuditEvent


def keep(store: Store, now: int, items: Sequence[Keep]) -> list[TowpathError | None]:
    """Write them in order."""
    for item in items:
        if item.put:
            store.put(list(item.put))
        if item.remove:
            store.remove(list(item.remove))
        record(store, item.audit)
    return [None for _ in items]


def keep_first(store: Store, now: int, items: Sequence[KeepFirst]) -> list[Token | TowpathError]:
    """Write tokens where there are none with their numbers; what is kept then."""
    store.put([item.token for item in items], replace=False)
    kept = {token.token_id: token for token in store.records(Token, [(item.token.token_id,) for item in items])}
    record(store, [item.audit for item in items if kept[item.token.token_id] == item.token])
    return [kept[item.token.token_id] for item in items]


KEEP = Verb("keep", keep)
KEEP_FIRST = Verb("keep first", keep_first)
