"""What every store does with audit events: they are found by what is asked, and nothing changes or removes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from support.store_samples import NOW
from towpath_server.core.records import AuditEvent
from towpath_server.store.base import IntegrityViolation, Recorded, Store
from towpath_server.store.sqlite import SqliteStore, restoring, snapshot

HOSTILE = "a\x00b\r\n\x1b[1m\u202e\uffff"
FIRST = AuditEvent(
    event_id=1,
    time=NOW,
    action="token.created",
    tenant="acme",
    user="ann",
    token_id=7,
    origin="10.0.0.1:5",
    subject="tok_1",
    details={"name": f"{HOSTILE}\ud800", "role": "worker"},
)
EVENTS = (
    FIRST,
    replace(FIRST, event_id=2, action="token.revoked", user="bob"),
    replace(FIRST, event_id=3, action="login.refused", tenant="", user="", token_id=0, subject="", details={}),
    replace(FIRST, event_id=4, action="tokens.x", tenant="evil", subject=HOSTILE, origin=HOSTILE),
)


@pytest.fixture
def filled(store: Store) -> Store:
    """With all of them, in another order than that of their ids."""
    with store.transaction():
        store.append_audit([EVENTS[2], EVENTS[0]])
        store.append_audit([])
        store.append_audit([EVENTS[3], EVENTS[1]])
    return store


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Recorded(), [4, 3, 2, 1]),
        (Recorded(tenants=("acme",)), [2, 1]),
        (Recorded(tenants=("acme", "")), [3, 2, 1]),
        (Recorded(tenants=()), []),
        (Recorded(action="token.created"), [1]),
        (Recorded(action="token."), [2, 1]),
        (Recorded(action="token"), []),
        (Recorded(action="to_en."), []),
        (Recorded(user="bob"), [2]),
        (Recorded(subject="tok_1", tenants=("acme",)), [2, 1]),
        (Recorded(subject=HOSTILE), [4]),
        (Recorded(before=3), [2, 1]),
        (Recorded(before=3, user="ann", action="token.", tenants=("acme",)), [1]),
    ],
)
def test_events_are_found_the_newest_first(filled: Store, query: Recorded, found: list[int]) -> None:
    by_id = {event.event_id: event for event in EVENTS}
    assert filled.audit(query, 9) == [by_id[event_id] for event_id in found]
    assert filled.audit(query, 1) == [by_id[event_id] for event_id in found[:1]]
    with closing(filled.reader()) as reader:
        assert reader.audit(query, 9) == filled.audit(query, 9)


def test_an_event_that_is_there_stays_and_nothing_of_the_transaction_does(filled: Store) -> None:
    new = replace(FIRST, event_id=5)
    with pytest.raises(IntegrityViolation), filled.transaction():
        filled.append_audit([new, replace(FIRST, user="somebody else")])
    with suppress(Exception), filled.transaction():
        with suppress(IntegrityViolation):
            filled.append_audit([replace(FIRST, user="somebody else")])
        filled.append_audit([new])
    assert filled.audit(Recorded(), 9) == list(EVENTS[::-1])


def test_events_are_added_inside_a_transaction_only(store: Store) -> None:
    with pytest.raises(RuntimeError):
        store.append_audit([FIRST])
    assert store.audit(Recorded(), 9) == []


BY_HAND = [
    "UPDATE audit SET details = '{}' WHERE event_id = 1",
    "UPDATE audit SET event_id = 9 WHERE event_id = 1",
    "DELETE FROM audit WHERE event_id = 1",
    "DELETE FROM audit",
]


def _refused(change: Callable[[str], object], wrong: type[Exception], statements: list[str]) -> None:
    for statement in statements:
        with pytest.raises(wrong, match="what was recorded is never"):
            change(statement)


def test_nobody_changes_them_by_hand_in_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "towpath.db"
    with closing(SqliteStore(path)) as store:
        with store.transaction():
            store.append_audit([FIRST])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            _refused(other.execute, sqlite3.IntegrityError, BY_HAND)
            # Without recursive triggers a row that is replaced would go unseen by those of a DELETE.
            with suppress(sqlite3.IntegrityError):
                other.execute("REPLACE INTO audit SELECT event_id, 0, 'x', '', '', 0, '', '', '{}' FROM audit")
        assert store.audit(Recorded(), 9) == [FIRST]


def test_a_backup_that_is_restored_has_them_and_guards_them_too(tmp_path: Path) -> None:
    first, copy, second = (tmp_path / name for name in ("first.db", "copy.db", "second.db"))
    with closing(SqliteStore(first)) as store:
        with store.transaction():
            store.append_audit(EVENTS)
        snapshot.take(first, copy)
    restoring.put_back(copy, second)
    with closing(SqliteStore(second)) as restored:
        assert restored.audit(Recorded(), 9) == list(EVENTS[::-1])
        with closing(sqlite3.connect(second, isolation_level=None)) as other:
            _refused(other.execute, sqlite3.IntegrityError, BY_HAND)


def test_nobody_changes_them_by_hand_in_postgresql() -> None:
    from support.postgres import psycopg, shared
    from towpath_server.store.postgres import PostgresStore

    name = shared().database()
    url = shared().url(name)
    with closing(PostgresStore(url)) as store:
        with store.transaction():
            store.append_audit([FIRST])
        with psycopg.connect(url, autocommit=True) as other:
            upsert = "INSERT INTO audit SELECT * FROM audit ON CONFLICT (event_id) DO UPDATE SET action = 'x'"
            _refused(
                lambda words: other.execute(words.encode()),
                psycopg.errors.IntegrityConstraintViolation,
                [*BY_HAND, upsert, "TRUNCATE audit", "TRUNCATE audit, jobs CASCADE"],
            )
        assert store.audit(Recorded(), 9) == [FIRST]
    shared().drop(name)
