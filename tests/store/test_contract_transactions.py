"""What every store refuses, rolls back, and shows to a reader."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.store_samples import after, fill, job, lane
from towpath_server.core.errors import Conflict
from towpath_server.core.job import (
    Job,
)
from towpath_server.store.base import IntegrityViolation, Matching, Store

ALL = Matching(tenant="acme")


def only(store: Store, job_id: int = 1) -> Job:
    return store.load([job_id])[job_id]


@pytest.mark.parametrize("revision", [1, 3, 9])
def test_save_of_another_revision_conflicts(store: Store, revision: int) -> None:
    fill(store, [job(1), job(2)])
    with pytest.raises(Conflict, match="has changed"), store.transaction():
        store.save([after(job(1)), replace(job(2), revision=revision)])
    assert store.load([1, 2]) == {1: job(1), 2: job(2)}


def test_save_of_a_missing_job_conflicts(store: Store) -> None:
    fill(store, [job(1)])
    with pytest.raises(Conflict), store.transaction():
        store.save([after(job(2))])
    assert set(store.load([1, 2])) == {1}


def test_one_job_twice_in_a_save_conflicts(store: Store) -> None:
    fill(store, [job(1)])
    for second in (after(job(1)), after(after(job(1))), after(job(1), state_reason="other")):
        with pytest.raises(Conflict), store.transaction():
            store.save([after(job(1)), second])
    assert only(store) == job(1)


def test_a_conflict_spoils_the_transaction_even_when_it_is_caught(store: Store) -> None:
    fill(store, [job(1), job(2)])

    def catch() -> None:
        with store.transaction():
            store.save([after(job(1))])
            with pytest.raises(Conflict):
                store.save([job(2)])

    with pytest.raises(Conflict):
        catch()
    assert only(store) == job(1)


@pytest.mark.parametrize(
    "wrong",
    [
        [job(1)],
        [job(2), job(2)],
        [job(2, request_id="r")],
        [job(2, request_id="s"), job(3, request_id="s")],
        [job(2, of=lane(5))],
    ],
    ids=["id", "id in the batch", "request_id", "request_id in the batch", "lane"],
)
def test_insert_refuses_what_cannot_be_new(store: Store, wrong: list[Job]) -> None:
    fill(store, [job(1, request_id="r")])
    with pytest.raises(IntegrityViolation), store.transaction():
        store.insert(wrong)
    assert len(store.find(ALL, 10)) == 1


def test_request_ids_are_apart_by_user_and_may_be_empty(store: Store) -> None:
    other = lane(2, user="bob")
    fill(store, [job(1, request_id="r"), job(2, of=other, request_id="r"), job(3), job(4)], [lane(), other])
    assert len(store.find(ALL, 10)) == 4


def test_an_exception_rolls_everything_back(store: Store) -> None:
    fill(store, [job(1), job(2)])

    def change_and_fail() -> None:
        with store.transaction():
            store.add_lanes([lane(2, user="bob")])
            store.insert([job(3)])
            store.save([after(job(1))])
            store.delete([2])
            assert set(store.load([1, 2, 3])) == {1, 3}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    assert store.load([1, 2, 3]) == {1: job(1), 2: job(2)}
    assert list(store.lanes()) == [lane()]
    with store.transaction():
        store.save([after(job(1))])


def test_writes_need_a_transaction_and_transactions_do_not_nest(store: Store) -> None:
    with pytest.raises(RuntimeError, match=r"inside transaction\(\) only"):
        store.insert([job(1)])
    with pytest.raises(RuntimeError, match="open already"), store.transaction(), store.transaction():
        pass
    fill(store, [job(1)])
    assert only(store) == job(1)


def test_a_reader_sees_what_was_committed(store: Store) -> None:
    fill(store, [job(1)])
    reader = store.reader()
    with store.transaction():
        store.insert([job(2)])
        store.save([after(job(1))])
        assert reader.find(ALL, 10) == [job(1)]
    assert reader.find(ALL, 10) == [job(2), after(job(1))]
    with reader.transaction():
        assert len(reader.find(ALL, 10)) == 2
        with store.transaction():
            store.delete([1])
        assert len(reader.find(ALL, 10)) == 2
    assert reader.find(ALL, 10) == [job(2)]
    reader.close()


def test_a_reader_does_not_write(store: Store) -> None:
    fill(store, [job(1)])
    reader = store.reader()
    with pytest.raises(RuntimeError, match="never by a reader"), reader.transaction():
        reader.delete([1])
    reader.close()
    assert only(store) == job(1)
