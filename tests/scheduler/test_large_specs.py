"""Jobs whose specs are large: a poll reads those that its answer carries, and few more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support.store_samples import NOW, fill, job, lane
from towpath_server.core.fairness import entry_of
from towpath_server.core.job import Job
from towpath_server.core.records import Head
from towpath_server.scheduler.transactions import claim
from towpath_server.scheduler.transactions.claim import Claim, ClaimItem, ClaimOutcome
from towpath_server.store.base import Query
from towpath_server.store.sqlite import SqliteStore

JOBS = 60


class Counting(SqliteStore):
    """Counts the jobs that are read."""

    read = 0

    def find(self, query: Query, limit: int) -> list[Job]:
        """See `Store`."""
        found = super().find(query, limit)
        self.read += len(found)
        return found


def claimed(store: SqliteStore, limit: int) -> Sequence[Job]:
    """What a poll is given."""
    item = ClaimItem(7, "session", "acme", [entry_of(1, Head(job(1).priority, -1))], limit)
    with store.transaction():
        [outcome] = Claim(lambda: "token").verb.run(store, NOW, [item])
    assert isinstance(outcome, ClaimOutcome)
    return outcome.jobs


def test_a_poll_reads_what_its_answer_carries(tmp_path: Path) -> None:
    store = Counting(tmp_path / "towpath.db")
    spec = b"x" * (claim.MOST_BYTES // 4)
    fill(store, [job(number, of=lane(), spec=spec) for number in range(1, JOBS + 1)])
    assert [one.job_id for one in claimed(store, JOBS)] == [1, 2, 3, 4]
    assert store.read < 20
    store.close()


def test_small_ones_are_read_in_one_go(tmp_path: Path) -> None:
    store = Counting(tmp_path / "towpath.db")
    fill(store, [job(number, of=lane()) for number in range(1, JOBS + 1)])
    assert len(claimed(store, JOBS)) == JOBS
    assert store.read < 2 * JOBS
    store.close()
