"""What only a store on a server has: an order of changes, lines, any text, and plans that find by an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from threading import Thread

import pytest

from support.postgres import shared
from support.postgres_store import ALL, LONG, QUEUE, ask, change, cut, patient, place
from support.store_samples import NOW, definition, fill, job, lane
from towpath_server.core.errors import InvalidArgument, StoreUnavailable
from towpath_server.core.job import JobState
from towpath_server.core.records import LogChunk, Replica
from towpath_server.store.base import Due, HeldBy, InLane, IntegrityViolation, Matching, OwnedBy, Query
from towpath_server.store.postgres import PostgresStore, finding, matching, statements
from towpath_server.store.rows import Row
from towpath_server.store.shared import Brief

import psycopg  # isort: skip - after support.postgres, which skips these tests where it is not installed


@pytest.fixture
def url() -> str:
    """Of an empty store."""
    return place()


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url)) as opened:
        yield opened


@pytest.fixture
def other(url: str, store: PostgresStore) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url)) as opened:
        yield opened


def test_news_are_settled_once_nothing_older_is_under_way(store: PostgresStore, other: PostgresStore) -> None:
    fill(store, [job(1), job(2)])
    with closing(other.reader()) as reader:
        start = reader.origin(NOW).sequence
        with store.transaction():
            older = change(store, store.load([1])[1])
            with other.transaction():
                newer = change(other, other.load([2])[2])
            assert older.sequence < newer.sequence
            news = reader.news(start, 9)
            assert [one.sequence for one in news.jobs] == [newer.sequence]
            assert start <= news.horizon < older.sequence
            assert not news.more
            # Also where there is no room for what is not settled.
            assert not reader.news(news.horizon, 0).more
            assert reader.find(Matching(tenant="acme", changed_after=start), 9) == []
        settled = reader.news(news.horizon, 9)
        assert [one.sequence for one in settled.jobs] == [older.sequence, newer.sequence]
        assert settled.horizon >= newer.sequence
        assert reader.find(Matching(tenant="acme", changed_after=start), 9) == [older, newer]


def test_the_newest_is_news_however_much_waits_for_something_older(store: PostgresStore, other: PostgresStore) -> None:
    fill(store, [job(number) for number in range(1, 6)])
    with closing(other.reader()) as reader:
        start = reader.origin(NOW).sequence
        with store.transaction():
            change(store, store.load([1])[1])
            for number in range(2, 6):
                with other.transaction():
                    newest = change(other, other.load([number])[number])
                news = reader.news(start, 2)
                assert news.jobs[-1].sequence == newest.sequence
                assert (len(news.jobs), news.more) == (min(number - 1, 2), False)
        place, told = reader.news(start, 2), list[Brief]()
        while place.more:
            told += place.jobs
            place = reader.news(place.horizon, 2)
        assert [one.job_id for one in [*told, *place.jobs]] == [1, 2, 3, 4, 5]


def test_numbers_go_on_above_those_of_a_dump_that_was_restored(store: PostgresStore, url: str) -> None:
    fill(store, [job(1, sequence=1 << 60)])
    with closing(PostgresStore(url)) as again:
        with again.transaction():
            changed = change(again, again.load([1])[1])
        assert changed.sequence > 1 << 60
        assert again.origin(NOW).sequence >= changed.sequence
        assert changed.sequence - (1 << 60) < 1 << 40
    ask(url, "UPDATE origin SET base = 1::bigint << 52 RETURNING 1")


def test_many_that_have_logged_are_any(store: PostgresStore, other: PostgresStore) -> None:
    fill(store, [job((1 << 60) + number) for number in range(800)])
    with closing(other.listener()) as line:
        with store.transaction():
            store.append_logs(
                [
                    LogChunk(job_id=(1 << 60) + number, attempt=1, offset=0, text="x", stream=1, time=NOW)
                    for number in range(800)
                ]
            )
        heard = line.wait(LONG)
    assert heard is not None
    assert heard.missed


def test_what_tells_nothing_is_not_sent(store: PostgresStore, url: str) -> None:
    fill(store, [job(1)])

    def fail() -> None:
        with store.transaction():
            store.put([QUEUE])
            raise ZeroDivisionError

    with psycopg.connect(url, autocommit=True) as line:
        line.execute(f"LISTEN {store._channel}".encode())
        with pytest.raises(ZeroDivisionError):
            fail()
        with store.transaction():
            store.put([Replica(replica_id=1, life="a", beat=NOW, start_time=NOW)])
        with store.transaction():
            store.append_logs([LogChunk(job_id=1, attempt=1, offset=0, text="x", stream=1, time=NOW)])
        heard = [notice.payload for notice in line.notifies(timeout=LONG, stop_after=1)]
    assert [payload.partition(":")[2] for payload in heard] == ["1"]


def test_a_line_that_was_cut_has_missed(store: PostgresStore, url: str) -> None:
    with closing(store.listener()) as line:
        cut(url)
        with pytest.raises(StoreUnavailable):
            line.wait(LONG)
        heard = line.wait(LONG)
        assert heard is not None
        assert heard.missed
        with store.transaction():
            store.put([QUEUE])
        heard = line.wait(LONG)
        assert heard is not None
        assert not heard.missed


def test_a_line_is_closed_under_who_waits(store: PostgresStore) -> None:
    line = store.listener()
    waits = Thread(target=line.wait, args=(0.2,))
    waits.start()
    line.close()
    waits.join(LONG)
    assert line.wait(LONG) is None
    assert not waits.is_alive()


@pytest.mark.parametrize("field", ["workspace", "request_id", "dedupe_key"])
def test_nul_in_what_is_looked_for_is_refused(store: PostgresStore, field: str) -> None:
    with pytest.raises(InvalidArgument, match="NUL"):
        fill(store, [replace(job(1), definition=definition(**{field: "a\x00b"}))])
    with pytest.raises(InvalidArgument):
        store.load([1 << 63])
    assert store.find(ALL, 9) == []


@pytest.mark.parametrize("text", ["\x00", "\uffff", "\uffff0\x001\uffff1", "a\\b\"c{},NULL'"])
def test_any_text_comes_back(store: PostgresStore, text: str) -> None:
    fill(store, [job(1, state_reason=text)])
    chunk = LogChunk(job_id=1, attempt=1, offset=0, text=text, stream=1, time=NOW)
    with store.transaction():
        store.append_logs([chunk])
    assert store.load([1])[1].state_reason == text
    assert store.logs(1, 1, 0, 9) == [chunk]


def test_a_final_job_stays_final(store: PostgresStore) -> None:
    fill(store, [job(1, JobState.FAILED)])
    with pytest.raises(IntegrityViolation, match="final"), store.transaction():
        change(store, store.load([1])[1], JobState.RUNNING)
    with store.transaction():
        change(store, store.load([1])[1], JobState.QUEUED, position=-1)


class Explaining:
    """Shows how the server would answer instead of asking it."""

    def __init__(self, url: str, *, writes: bool) -> None:
        self.writes = writes
        self.plan = ""
        self._url = url

    def rows(self, sql: str, values: Sequence[str | None] = ()) -> list[Row]:
        with psycopg.connect(self._url, autocommit=True, cursor_factory=psycopg.RawCursor[Row]) as connection:
            found = connection.execute(f"EXPLAIN {sql}".encode(), values).fetchall()
        self.plan = "\n".join(line for (line,) in found)
        return []


@pytest.fixture(scope="module")
def crowded() -> Iterator[str]:
    """Of a store with some thousand jobs."""
    name = shared().database()
    url = patient(shared().url(name))
    lanes = [lane(number, user=f"u{number}") for number in range(1, 41)]
    jobs = [job(n, [*JobState][n % 10], of=lanes[n % 40], due_time=NOW + n) for n in range(1, 4001)]
    with closing(PostgresStore(url)) as store:
        fill(store, jobs, lanes)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    yield url
    shared().drop(name)


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize(
    ("query", "index"),
    [
        (InLane(1), "jobs_queued"),
        (Due(NOW), "jobs_due"),
        (Due(NOW, final=True), "jobs_due_final"),
        (HeldBy("nobody"), "jobs_held"),
        (OwnedBy((1, 2), "acme", "u1"), "jobs_pkey"),
        (Matching(tenant="acme", changed_after=3990), "jobs_by_sequence"),
        (Matching(tenant="acme"), "definitions_"),
        (Matching(tenant="acme", user="u1"), "jobs_by_state"),
    ],
)
def test_jobs_are_found_by_an_index(crowded: str, query: Query, index: str, writes: bool) -> None:
    explaining = Explaining(crowded, writes=writes)
    finding.find(explaining, query, 10)  # type: ignore[arg-type]
    assert index in explaining.plan
    assert "Seq Scan on jobs" not in explaining.plan


def test_heads_of_lanes_are_found_by_an_index(crowded: str) -> None:
    explaining = Explaining(crowded, writes=False)
    explaining.rows(statements.LANES)
    assert "Index Only Scan using jobs_queued" in explaining.plan


def test_jobs_are_counted_without_being_read(crowded: str) -> None:
    counting = matching.Filter(Matching(tenant="acme"), settled=False)
    sql = counting.tally()
    with closing(PostgresStore(crowded)) as store, closing(store.reader()) as reader:
        connection = reader._connection  # type: ignore[attr-defined]
        with connection.by_index():
            plan = "\n".join(line for (line,) in connection.rows(f"EXPLAIN {sql}", counting.values.given))
        assert "jobs_by_state" in plan
        assert "Seq Scan on jobs" not in plan
        assert connection.value("SHOW enable_seqscan") == "on"
