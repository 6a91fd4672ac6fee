"""What every store finds and counts, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.store_samples import NOW, WORKER, after, at, fill, job, lane
from towpath_server.core.job import Job, JobState, Lease, Priority
from towpath_server.core.records import Head
from towpath_server.store.base import ByRequest, Count, Due, HeldBy, InLane, Matching, OwnedBy, Query, Store
from towpath_server.store.memory import MemoryStore
from towpath_server.store.sqlite import SqliteStore

S = JobState


def ids(jobs: Sequence[Job]) -> list[int]:
    return [one.job_id for one in jobs]


def found(store: Store, query: Query, limit: int = 100) -> list[int]:
    return ids(store.find(query, limit))


def test_request_ids_find_the_jobs_of_their_user(store: Store) -> None:
    bob = lane(2, user="bob")
    evil = lane(3, tenant="evil")
    jobs = [job(1, request_id="r"), job(2, of=bob, request_id="r"), job(3, of=evil, request_id="r"), job(4), job(5)]
    fill(store, [*jobs, job(6, S.SUCCEEDED, request_id="s")], [lane(), bob, evil])
    assert found(store, ByRequest("acme", "ann", ("s", "r", "x", ""))) == [1, 6]
    assert found(store, ByRequest("acme", "bob", ("r",))) == [2]
    assert found(store, ByRequest("acme", "ann", ())) == []
    assert found(store, ByRequest("acme", "ann", ("",))) == []


def test_a_lane_is_in_dispatch_order(store: Store) -> None:
    other = lane(2, user="bob")
    jobs = [
        job(1, position=30),
        job(2, position=10),
        job(3, position=20, priority=Priority.HIGH),
        job(4, position=40, priority=Priority.LOW),
        job(5, position=-5),
        job(6, S.LEASED, priority=Priority.CRITICAL),
        job(7, of=other, priority=Priority.CRITICAL),
    ]
    fill(store, jobs, [lane(), other])
    assert found(store, InLane(1)) == [3, 5, 2, 1, 4]
    assert found(store, InLane(1), 2) == [3, 5]
    assert found(store, InLane(9)) == []


def test_the_most_overdue_come_first(store: Store) -> None:
    fill(
        store,
        [
            job(1, due_time=NOW + 2),
            job(2),
            job(3, due_time=NOW),
            job(4, S.PAUSED, due_time=NOW),
            job(5, due_time=NOW + 3),
        ],
    )
    assert store.next_due() == NOW
    assert found(store, Due(NOW + 2)) == [3, 4, 1]
    assert found(store, Due(NOW + 2), 1) == [3]
    assert found(store, Due(NOW - 1)) == []
    assert (found(store, Due(NOW + 3, final=True)), store.next_due(final=True)) == ([], None)
    with store.transaction():
        store.save([after(one, due_time=None) for one in store.load([3, 4]).values()])
    assert store.next_due() == NOW + 2


def test_what_is_over_is_due_apart_from_clocks_that_cannot_wait(store: Store) -> None:
    done = [job(number, S.SUCCEEDED, end_time=NOW, due_time=NOW + number) for number in (1, 2, 3)]
    fill(store, [*done, job(4, due_time=NOW + 9), job(5, S.SUCCEEDED, end_time=NOW)])
    assert (store.next_due(), store.next_due(final=True)) == (NOW + 9, NOW + 1)
    assert (found(store, Due(NOW + 9)), found(store, Due(NOW + 2, final=True))) == ([4], [1, 2])
    with store.transaction():
        store.delete([1, 2])
    assert (store.next_due(), store.next_due(final=True)) == (NOW + 9, NOW + 3)


def test_a_session_holds_its_leases(store: Store) -> None:
    other = at(job(5), S.LEASED, lease=Lease("t", WORKER, "other"))
    fill(store, [job(1), job(2, S.RUNNING), job(3, S.CANCELLING), job(4, S.SUCCEEDED), other, job(6, S.LEASED)])
    assert found(store, HeldBy("session")) == [2, 3, 6]
    assert found(store, HeldBy("other")) == [5]
    assert found(store, HeldBy("")) == []


def test_lanes_tell_their_best_job(store: Store) -> None:
    lanes = [lane(), lane(2, user="bob"), lane(3, queue="q"), lane(4, concurrency_key="k")]
    jobs = [
        job(1, position=9),
        job(2, position=8),
        job(3, position=-7, of=lanes[1], priority=Priority.LOW),
        job(4, of=lanes[1], priority=Priority.HIGH),
        job(5, S.PAUSED, of=lanes[2]),
    ]
    fill(store, jobs, lanes)
    heads = [Head(Priority.NORMAL, -8), Head(Priority.HIGH, -4), None, None]
    assert store.lanes() == dict(zip(lanes, heads, strict=True))
    assert Head(Priority.NORMAL, -8) > Head(Priority.NORMAL, -9)


@pytest.mark.parametrize(("ascending", "pages"), [(False, [[5, 4], [3, 2], [1]]), (True, [[1, 2], [3, 4], [5]])])
@pytest.mark.parametrize("by", [{}, {"user": "ann"}, {"states": tuple(S)}, {"workspace": ""}])
def test_pages_follow_one_another(store: Store, by: dict[str, object], ascending: bool, pages: list[list[int]]) -> None:
    evil = lane(2, tenant="evil")
    fill(store, [job(1), job(2, S.FAILED), job(3), job(4, S.RUNNING), job(5), job(6, of=evil)], [lane(), evil])
    last: int | None = None
    seen = []
    while page := found(store, Matching(tenant="acme", ascending=ascending, after=last, **by), 2):  # type: ignore[arg-type]
        seen.append(page)
        last = page[-1]
    assert seen == pages


def test_counts_are_by_queue_and_state(store: Store) -> None:
    slow = lane(2, queue="slow")
    jobs = [
        job(1),
        job(2, queue_time=NOW - 5),
        job(3, S.FAILED),
        job(4, S.FAILED),
        job(5, of=slow),
        job(6, S.RUNNING, of=slow),
    ]
    fill(store, jobs, [lane(), slow])
    assert store.count(Matching(tenant="acme")) == [
        Count("default", S.QUEUED, 2, NOW - 5),
        Count("default", S.FAILED, 2, None),
        Count("slow", S.QUEUED, 1, NOW + 5),
        Count("slow", S.RUNNING, 1, None),
    ]
    assert store.count(Matching(tenant="acme", states=(S.FAILED,))) == [Count("default", S.FAILED, 2, None)]
    assert store.count(Matching(tenant="nobody")) == []


LANES = [
    lane(number, tenant=tenant, user=user, queue=queue, job_type=job_type)
    for number, (tenant, user, queue, job_type) in enumerate(product(("acme", "evil"), ("ann", "bob"), "qr", "tu"), 1)
]
LABELS = st.dictionaries(st.sampled_from(["a", "b", '"', "ü", "$.x"]), st.sampled_from(["", "1", "'", '"']), max_size=3)
JOBS: st.SearchStrategy[dict[str, object]] = st.builds(
    dict,
    lane=st.sampled_from(LANES),
    state=st.sampled_from(S),
    priority=st.sampled_from(Priority),
    workspace=st.sampled_from(["", "w"]),
    labels=LABELS,
    queue_time=st.integers(NOW, NOW + 3) | st.none(),
)
FILTERS = st.builds(
    Matching,
    tenant=st.sampled_from(["acme", "evil"]),
    user=st.sampled_from([None, "ann", "bob"]),
    states=st.lists(st.sampled_from(S), max_size=3, unique=True).map(tuple),
    queue=st.sampled_from([None, "q"]),
    job_type=st.sampled_from([None, "t"]),
    workspace=st.sampled_from([None, "", "w"]),
    labels=LABELS,
    worker_id=st.sampled_from([None, None, WORKER, 1]),
    ended_before=st.sampled_from([None, None, NOW, 2 * NOW]),
    ascending=st.booleans(),
    dispatch_order=st.booleans(),
    after=st.none() | st.integers(0, 12),
)


def opened(kind: str, folders: pytest.TempPathFactory) -> Store:
    """An empty store of a kind."""
    if kind == "sqlite":
        path: Path = folders.mktemp("model")
        return SqliteStore(path / "towpath.db")
    # Only now: it needs the driver, and a test that cannot have it is skipped.
    from support.postgres_store import emptied

    return emptied()


def made(number: int, wanted: dict[str, object]) -> Job:
    fields = dict(wanted)
    return job(number, fields.pop("state"), of=fields.pop("lane"), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=st.lists(JOBS, max_size=30), filters=st.lists(FILTERS, min_size=5, max_size=20), limit=st.integers(0, 12))
def test_stores_find_what_the_model_finds(
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    jobs: list[dict[str, object]],
    filters: list[Matching],
    limit: int,
) -> None:
    model, other = MemoryStore(), opened(kind, tmp_path_factory)
    for store in (model, other):
        fill(store, [made(number, wanted) for number, wanted in enumerate(jobs, 1)], LANES)
    for matching in filters:
        assert ids(other.find(matching, limit)) == ids(model.find(matching, limit))
        assert other.count(matching) == model.count(matching)
    assert other.lanes() == model.lanes()
    other.close()


def test_jobs_are_found_by_those_whose_they_are(store: Store) -> None:
    bob, evil = lane(2, user="bob"), lane(3, tenant="evil")
    fill(store, [job(1), job(2, S.SUCCEEDED), job(3, of=bob), job(4, of=evil)], [lane(), bob, evil])
    assert found(store, OwnedBy((2, 1, 1, 3, 4, 5), "acme")) == [1, 2, 3]
    assert found(store, OwnedBy((3, 2, 1), "acme", "ann")) == [1, 2]
    assert found(store, OwnedBy((1, 3, 4), "evil", "ann")) == [4]
    assert found(store, OwnedBy((1, 3), "acme", "")) == []
    assert found(store, OwnedBy((), "acme")) == []
    with store.transaction():
        assert found(store, OwnedBy((3, 4), "acme", "bob")) == [3]
