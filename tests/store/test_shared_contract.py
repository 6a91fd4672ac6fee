"""What every store that schedulers share tells each of them of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from support.shared_memory import Hub
from support.store_samples import NOW, WORKER, after, at, fill, job, lane
from towpath_server.core import ids
from towpath_server.core.errors import Conflict
from towpath_server.core.job import Job, JobState
from towpath_server.core.records import LogChunk, ModelRecord, Queue, Replica, Role, Token, Worker
from towpath_server.store.base import InLane, IntegrityViolation, Matching
from towpath_server.store.shared import Brief, News, SharedStore

# Seconds: far more than a notice takes, and never waited for.
LONG = 20
BEAT = Replica(replica_id=1, life="a", beat=NOW, start_time=NOW)
QUEUE = Queue(tenant="acme", name="ü\x7f", create_time=NOW)
RECORDS = (
    Token(token_id=1, secret_hash="ab", name="n", tenant="acme", user="ann", role=Role.WORKER, create_time=NOW),
    QUEUE,
    Worker(
        worker_id=3,
        name="box",
        tenant="acme",
        user="ann",
        slots=1,
        job_types=(),
        create_time=NOW,
        connect_time=NOW,
        replica_id=7,
    ),
    ModelRecord(
        model_id=5,
        worker_id=3,
        tenant="acme",
        user="ann",
        name="late",
        version=1,
        model_type="t",
        task_type=1,
        create_time=NOW,
    ),
)
KEYS = {(Token, (1,)), (Queue, ("acme", "ü\x7f")), (Worker, (3,)), (ModelRecord, (5,))}

Opener = Callable[[], SharedStore]


@pytest.fixture(params=["memory", "postgres"])
def another(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens one more store on the same place, which is empty at first. All are closed at the end."""
    opened: list[SharedStore] = []
    opener: Opener
    if request.param == "memory":
        opener = Hub(now=lambda: time.time_ns() // 1000).store
    else:
        from support.postgres_store import place
        from towpath_server.store.postgres import PostgresStore

        url = place()

        def opener() -> SharedStore:
            return PostgresStore(url)

    def kept() -> SharedStore:
        opened.append(opener())
        return opened[-1]

    yield kept
    for store in opened:
        store.close()


def insert(store: SharedStore, *jobs: Job) -> list[Job]:
    """With sequences of the store's own."""
    with store.transaction():
        store.add_lanes([lane()])
        numbered = [replace(one, sequence=store.sequence(NOW)) for one in jobs]
        store.insert(numbered)
    return numbered


def change(store: SharedStore, job_id: int, state: JobState = JobState.LEASED) -> Job:
    with store.transaction():
        changed = after(at(store.load([job_id])[job_id], state), sequence=store.sequence(NOW))
        store.save([changed])
    return changed


def told(store: SharedStore, place: int, limit: int = 100, *, mine: bool = True) -> News:
    with closing(store.reader()) as reader, reader.transaction():
        return reader.news(place, limit, mine=mine)


def brief(one: Job, *, mine: bool) -> Brief:
    return Brief(
        job_id=one.job_id,
        lane_id=one.lane_id,
        priority=one.priority,
        position=one.position,
        state=one.state,
        revision=one.revision,
        sequence=one.sequence,
        due_time=one.due_time,
        session_id=one.lease.session_id if one.lease else None,
        token=one.lease.token if one.lease else None,
        mine=mine,
    )


def test_what_one_commits_is_news_to_all(another: Opener) -> None:
    first, second = another(), another()
    start = first.origin(NOW).sequence
    created = insert(first, job(1, due_time=NOW), job(2))
    assert list(told(second, start).jobs) == [brief(one, mine=False) for one in created]
    assert list(told(first, start).jobs) == [brief(one, mine=True) for one in created]
    leased = change(second, 1)
    news = told(first, start)
    assert list(news.jobs) == [brief(created[1], mine=True), brief(leased, mine=False)]
    assert [one.mine for one in told(second, start).jobs] == [False, True]
    assert not news.more
    assert leased.sequence <= news.horizon
    assert [one.mine for one in told(first, start, mine=False).jobs] == [False]
    nothing = told(first, news.horizon)
    assert (list(nothing.jobs), list(nothing.records), nothing.more) == ([], [], False)
    assert nothing.horizon >= news.horizon


def test_small_records_are_told_by_their_keys(another: Opener) -> None:
    first, second = another(), another()
    start = told(second, 0).horizon
    with first.transaction():
        first.put([*RECORDS, BEAT])
    news = told(second, start)
    assert set(news.records) == KEYS
    assert second.records(Queue, [("acme", "ü\x7f")]) == [QUEUE]
    assert second.records(Worker)[0].replica_id == 7
    with first.transaction():
        first.remove([QUEUE, RECORDS[2], BEAT])
    assert set(told(second, news.horizon).records) == {(Queue, ("acme", "ü\x7f")), (Worker, (3,))}
    assert set(told(second, start).records) == KEYS


def test_what_is_left_alone_is_not_told(another: Opener) -> None:
    first, second = another(), another()
    with first.transaction():
        first.put([QUEUE])
    start = told(second, 0).horizon
    with first.transaction():
        first.put([replace(QUEUE, paused=True)], replace=False)
        first.put([BEAT])
        first.put([replace(BEAT, beat=NOW + 1)])
        first.remove([BEAT])
    assert list(told(second, start).records) == []
    assert second.records(Queue) == [QUEUE]


def test_what_was_rolled_back_is_not_told(another: Opener) -> None:
    first, second = another(), another()
    insert(first, job(1))
    start = told(second, 0).horizon

    def fail() -> None:
        with first.transaction():
            first.save([after(first.load([1])[1], sequence=first.sequence(NOW))])
            first.put([QUEUE])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    news = told(second, start)
    assert (list(news.jobs), list(news.records)) == ([], [])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_of_news_miss_nothing(another: Opener, limit: int) -> None:
    first, second = another(), another()
    insert(first, *(job(number) for number in range(1, 8)))
    changed = [change(first, 3), change(second, 1), change(first, 5)]
    place, seen, more = 0, [], True
    while more:
        news = told(second, place, limit)
        assert len(news.jobs) <= limit
        assert news.horizon > place
        seen += [one.job_id for one in news.jobs]
        place, more = news.horizon, news.more
    assert seen == [2, 4, 6, 7, 3, 1, 5]
    assert place >= changed[-1].sequence
    # The same order for whoever lists them.
    with closing(second.reader()) as reader:
        assert [one.job_id for one in reader.find(Matching(tenant="acme", changed_after=0), 9)] == seen


def test_sequences_of_all_are_one_order(another: Opener) -> None:
    stores = [another(), another(), another()]
    insert(stores[0], job(1))
    sequences = [change(store, 1, state).sequence for store in stores for state in (JobState.LEASED, JobState.QUEUED)]
    assert sequences == sorted(set(sequences))


def test_a_scheduler_begins_after_all_that_is_there(another: Opener) -> None:
    first = another()
    number = ids.new_id(NOW + 5_000_000, 3)
    [one] = insert(first, job(number))
    second = another()
    origin = second.origin(NOW)
    assert one.sequence <= origin.sequence
    assert ids.new_id(origin.moment, 0) > number
    assert list(told(second, origin.sequence).jobs) == []
    later = NOW + 3600_000_000
    assert second.origin(later).moment >= later
    changed = change(first, number)
    assert [one.sequence for one in told(second, origin.sequence).jobs] == [changed.sequence]


def test_all_go_by_one_clock(another: Opener) -> None:
    first, second = another(), another()
    with closing(first.reader()) as reader:
        seen = [store.now() for store in (first, second, reader) for _ in range(3)]
    # Two machines' clocks would differ by less; two that count from elsewhere differ by more.
    assert max(seen) - min(seen) < 5_000_000
    for store in (first, second):
        with store.transaction():
            before = store.now()
        assert before <= store.now()


def test_commits_are_heard(another: Opener) -> None:
    first, second = another(), another()
    insert(first, job(1), job(2))
    line = second.listener()
    assert line.wait(0) is None
    change(first, 1)
    heard = line.wait(LONG)
    assert heard is not None
    assert heard.logged == frozenset()
    assert not heard.missed
    assert line.wait(0) is None
    with first.transaction():
        first.put([QUEUE])
    assert line.wait(LONG) is not None
    own = first.listener()
    change(first, 2)
    mine, theirs = own.wait(LONG), line.wait(LONG)
    assert mine is not None
    assert theirs is not None
    assert (mine.own, theirs.own) == (True, False)
    for one in (line, line, own):
        one.close()


def test_logs_are_heard_by_their_jobs(another: Opener) -> None:
    first, second = another(), another()
    insert(first, job(1), job(2), job(3))
    line = second.listener()

    def log(*job_ids: int) -> None:
        with first.transaction():
            first.append_logs(
                [LogChunk(job_id=one, attempt=1, offset=0, text="x", stream=1, time=NOW) for one in job_ids]
            )

    log(1, 2)
    heard: set[int] = set()
    notice = line.wait(LONG)
    assert notice is not None
    heard |= notice.logged
    log(3)
    notice = line.wait(LONG)
    assert notice is not None
    assert heard | notice.logged == {1, 2, 3}
    line.close()


def test_who_changes_nothing_is_not_heard(another: Opener) -> None:
    first, second = another(), another()
    insert(first, job(1))
    line = second.listener()

    def fail() -> None:
        with first.transaction():
            first.put([QUEUE])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with first.transaction():
        first.put([BEAT])
        first.load([1])
    # What comes after it is the first that is heard.
    with first.transaction():
        first.append_logs([LogChunk(job_id=1, attempt=1, offset=0, text="x", stream=1, time=NOW)])
    notice = line.wait(LONG)
    assert notice is not None
    assert notice.logged == {1}
    assert line.wait(0) is None
    line.close()


def test_who_is_late_conflicts(another: Opener) -> None:
    first, second = another(), another()
    fill(first, [job(1)])
    with second.transaction():
        old = second.load([1])[1]
    change(first, 1)
    with pytest.raises(Conflict), second.transaction():
        second.save([after(old, sequence=second.sequence(NOW))])
    assert [one.job_id for one in second.find(InLane(1), 9)] == []
    assert second.load([1])[1].worker_id == WORKER


def test_what_is_new_is_new_to_all(another: Opener) -> None:
    first, second = another(), another()
    insert(first, job(1, request_id="r"))
    with pytest.raises(IntegrityViolation):
        insert(second, job(2, request_id="r"))
    with pytest.raises(IntegrityViolation):
        insert(second, job(1))
    assert set(second.load([1, 2])) == {1}
