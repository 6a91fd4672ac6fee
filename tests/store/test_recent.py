"""What the writer keeps of the jobs that it wrote last: what is on disk, and not too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.store_samples import at, fill, job
from towpath_server.core.evolve import evolve
from towpath_server.core.job import Failure, FailureCause, Job, JobState
from towpath_server.store.sqlite import SqliteStore, recent
from towpath_server.store.sqlite.recent import Recent


class Broken(Exception):
    """The block of a transaction raised."""


@pytest.fixture
def kept() -> Recent:
    """Nothing yet, with room for four jobs."""
    return Recent(most_bytes=4 * (recent.BARE_BYTES + len(job(1).definition.spec)))


def commit(kept: Recent, *jobs: Job) -> None:
    """A transaction that writes these."""
    kept.stage(jobs)
    kept.commit()
    kept.end()


def test_what_a_transaction_wrote_is_gone_when_it_is_undone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "towpath.db")
    fill(store, [job(1)])
    with pytest.raises(Broken):
        _change_and_break(store)
    with store.transaction():
        assert store.load([1])[1] == job(1)
    store.close()


def test_what_was_deleted_is_not_found(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "towpath.db")
    fill(store, [job(1), job(2)])
    with store.transaction():
        store.delete([1])
        assert set(store.load([1, 2])) == {2}
    with store.transaction():
        assert set(store.load([1, 2])) == {2}
    store.close()


def test_a_transaction_inside_another_takes_nothing_from_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "towpath.db")
    fill(store, [job(1)])
    with store.transaction():
        store.delete([1])
        with pytest.raises(RuntimeError, match="open already"):
            store.transaction().__enter__()
        assert store.load([1]) == {}
    with store.transaction():
        assert store.load([1]) == {}
    store.close()


def test_those_that_were_written_last_are_kept(kept: Recent) -> None:
    commit(kept, *map(job, range(1, 10)))
    assert [number for number in range(1, 10) if kept.get(number) is not None] == [6, 7, 8, 9]
    commit(kept, evolve(job(6), revision=2))
    commit(kept, job(10), job(11))
    assert [number for number in range(1, 12) if kept.get(number) is not None] == [6, 9, 10, 11]


def test_final_and_large_ones_are_not_kept(kept: Recent) -> None:
    commit(kept, job(1), job(2))
    commit(kept, at(job(1), JobState.SUCCEEDED), job(2, spec=b"x" * recent.MOST_OF_A_JOB))
    assert (kept.get(1), kept.get(2)) == (None, None)
    failed = Failure(FailureCause.HANDLER, "Boom", "it failed", traceback="x" * 40_000)
    commit(kept, evolve(job(3), failure=failed))
    assert kept.get(3) is None


def test_a_definition_is_known_only_in_the_transaction_that_gave_it_out(kept: Recent) -> None:
    one = job(1)
    commit(kept, one)
    assert not kept.has_definition(one)
    assert kept.get(1) is one
    assert kept.has_definition(one)
    assert not kept.has_definition(evolve(one, definition=evolve(one.definition, workspace="another")))


def _change_and_break(store: SqliteStore) -> None:
    with store.transaction():
        store.save([evolve(store.load([1])[1], revision=2, state_reason="undone")])
        raise Broken
