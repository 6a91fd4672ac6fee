"""What SQLite refuses by itself, as the second line of defence, and how it finds its way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.store_samples import NOW, after, at, fill, job
from towpath_server.core.errors import InvalidArgument
from towpath_server.core.job import JobState
from towpath_server.store.base import (
    ByRequest,
    Due,
    HeldBy,
    InLane,
    IntegrityViolation,
    Matching,
    OwnedBy,
    Query,
)
from towpath_server.store.sqlite import SqliteStore

S = JobState


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "towpath.db")
    yield opened
    opened.close()


def test_numbers_beyond_64_bits_are_refused(store: SqliteStore) -> None:
    with pytest.raises(InvalidArgument, match="64 bits"):
        fill(store, [job(1, position=1 << 63)])


def test_a_lease_names_the_worker_of_its_job(store: SqliteStore) -> None:
    with pytest.raises(ValueError, match="leased by worker"):
        fill(store, [job(1, S.LEASED, worker_id=5)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": S.LEASED},
        {"state": S.RUNNING, "end_time": None},
        {"state": S.QUEUED, "lease": at(job(1), S.LEASED).lease, "worker_id": 77},
        {"state": S.PAUSED, "lease": at(job(1), S.LEASED).lease, "worker_id": 77},
        {"state": S.SUCCEEDED, "end_time": None},
        {"state": S.QUEUED, "end_time": NOW},
        {"state": S.FAILED, "end_time": NOW, "result": b""},
        {"state": S.QUEUED, "result": b""},
        {"state": 2},
        {"state": 12, "end_time": NOW},
        {"priority": 0},
        {"priority": 5},
        {"revision": 0},
        {"attempt": -1},
        {"attempt_count": -1},
        {"lost_count": -1},
        {"state_reason": None},
        {"last_token": None},
    ],
    ids=str,
)
def test_the_database_refuses_what_no_rule_allows(store: SqliteStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityViolation):
        fill(store, [replace(job(1), **wrong)])
    fill(store, [job(1)])
    if "revision" not in wrong:
        with pytest.raises(IntegrityViolation), store.transaction():
            store.save([after(job(1), **wrong)])
    assert store.load([1]) == {1: job(1)}


@pytest.mark.parametrize("final", [state for state in S if state.is_final])
@pytest.mark.parametrize("to", S)
def test_a_final_job_changes_only_to_queued(store: SqliteStore, final: JobState, to: JobState) -> None:
    fill(store, [job(1, final)])
    change = after(at(job(1, final), to))
    if to is S.QUEUED:
        with store.transaction():
            store.save([change])
        assert store.load([1]) == {1: change}
    else:
        with pytest.raises(IntegrityViolation, match="only to QUEUED"), store.transaction():
            store.save([change])


def plans(store: SqliteStore, call: Callable[[SqliteStore], object]) -> list[str]:
    """How SQLite carries out the statements of a call."""
    statements: list[str] = []
    store._connection._sqlite.set_trace_callback(statements.append)
    call(store)
    store._connection._sqlite.set_trace_callback(None)
    explained = [one for one in statements if one.startswith(("SELECT", "UPDATE", "DELETE"))]
    return [row[3] for sql in explained for row in store._connection.rows(f"EXPLAIN QUERY PLAN {sql}")]


@pytest.mark.parametrize(
    "query",
    [
        ByRequest("acme", "ann", ("r",)),
        InLane(1),
        Due(NOW),
        HeldBy("session"),
        OwnedBy((1, 2), "acme"),
        OwnedBy((1, 2), "acme", "ann"),
        Matching(tenant="acme"),
        Matching(tenant="acme", user="ann"),
        Matching(tenant="acme", states=(S.FAILED,)),
        Matching(tenant="acme", labels={"a": "b"}, after=7),
        Matching(tenant="acme", states=(S.RUNNING,), worker_id=7),
        Matching(tenant="acme", queue="default", states=(S.QUEUED,), dispatch_order=True),
    ],
    ids=str,
)
def test_no_query_reads_every_job(store: SqliteStore, query: Query) -> None:
    fill(store, [job(1)])
    steps = plans(store, lambda store: store.find(query, 10))
    assert not [
        step
        for step in steps
        if step.startswith(("SCAN jobs", "SCAN j", "SCAN i", "SCAN d", "SCAN definitions")) and "json_each" not in step
    ]


def test_no_verb_reads_every_job(store: SqliteStore) -> None:
    fill(store, [job(number) for number in range(1, 10)])

    def verbs(store: SqliteStore) -> None:
        with store.transaction():
            store.save([after(one) for one in store.load([1, 2, 3]).values()])
            store.delete([1, 2])
        store.lanes()
        store.count(Matching(tenant="acme"))
        store.next_due()
        store.attempts(1)
        store.logs(1, 1, 5, 1)

    steps = plans(store, verbs)
    assert len(steps) > 20
    whole = re.compile(r"SCAN (?!json_each|CONSTANT|lanes|\(subquery)[a-z]{4,}")
    assert not [step for step in steps if whole.match(step)]
