"""Recording what is done, in the transaction that does it: both are there afterwards, or neither."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from towpath_server.core.errors import TowpathError
from towpath_server.core.records import AuditEvent
from towpath_server.store.base import Store
from towpath_server.store.committer import Verb


def record(store: Store, events: Iterable[AuditEvent | None]) -> None:
    """Write those that there are."""
    if told := [event for event in events if event is not None]:
        store.append_audit(told)


def recorded(store: Store, now: int, items: Sequence[AuditEvent]) -> list[TowpathError | None]:
    """Write what changed nothing else."""
    store.append_audit(items)
    return [None for _ in items]


RECORD = Verb("record", recorded)
