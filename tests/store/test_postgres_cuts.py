"""A store that is cut off goes on, and finds out what became of a commit."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from threading import Event, Thread

import pytest

from support.postgres import Postgres, shared
from support.postgres_store import ALL, LONG, QUEUE, change, cut, place
from support.proxy import Proxy, Way, proxy
from support.store_samples import NOW, fill, job
from towpath_server.core.errors import StoreUnavailable
from towpath_server.core.job import JobState
from towpath_server.core.records import Queue, Replica
from towpath_server.store.base import Contended
from towpath_server.store.postgres import PostgresStore, writer

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


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that is reached over TCP, and loses nothing."""
    shared()  # it skips where there is none
    own = Postgres(durable=True, tcp=True)
    yield own
    own.remove()


def test_who_was_cut_off_goes_on(store: PostgresStore, url: str) -> None:
    fill(store, [job(1)])
    with closing(store.reader()) as reader:
        assert len(reader.find(ALL, 9)) == 1
        cut(url)
        assert len(reader.find(ALL, 9)) == 1
        cut(url)
        with reader.transaction():
            assert len(reader.find(ALL, 9)) == 1
        with store.transaction():
            change(store, store.load([1])[1])

        def cut_within(within: PostgresStore) -> None:
            with within.transaction():
                within.load([1])
                cut(url)
                within.put([QUEUE]) if within is store else within.load([1])

        with pytest.raises(Contended):
            cut_within(store)
        with pytest.raises(StoreUnavailable):
            cut_within(reader)  # type: ignore[arg-type]
        assert len(reader.find(ALL, 9)) == 1
    assert store.records(Queue) == []


@contextmanager
def network(upstream: str) -> Iterator[Proxy]:
    """A proxy with an event loop of its own."""
    up, end = Event(), asyncio.Event()
    made: list[Proxy] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with proxy(upstream) as between:
            made.append(between)
            up.set()
            await end.wait()

    thread = Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    up.wait(LONG)
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(LONG)
        loop.close()


@contextmanager
def behind(server: Postgres) -> Iterator[tuple[PostgresStore, Proxy]]:
    """A store behind a proxy, with a job and a queue."""
    address = server.url(server.database(), tcp=True)
    head, _, rest = address.rpartition("@")
    upstream, _, database = rest.partition("/")
    with network(upstream) as between, closing(PostgresStore(f"{head}@{between.address}/{database}")) as store:
        fill(store, [job(1)])
        yield store, between


def test_a_commit_whose_answer_is_lost_took_place(server: Postgres) -> None:
    with behind(server) as (store, between):
        with store.transaction():
            changed = change(store, store.load([1])[1])
            between.cut_after(Way.DOWN, 0)
        assert between.connections == 2 + 1
        assert store.load([1])[1] == changed
        assert store.news(0, 9).jobs[0].mine


def test_a_commit_that_did_not_arrive_is_tried_again(server: Postgres) -> None:
    with behind(server) as (store, between):

        def cut_off() -> None:
            with store.transaction():
                change(store, store.load([1])[1])
                between.cut_after(Way.UP, 0)

        with pytest.raises(Contended):
            cut_off()
        assert store.load([1])[1] == job(1)
        with store.transaction():
            change(store, store.load([1])[1])


def test_a_commit_that_leaves_no_proof_is_tried_again_at_once(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DOUBT_SECONDS", LONG)
    beat = Replica(replica_id=1, life="a", beat=1, start_time=NOW)
    with behind(server) as (store, between):

        def cut_off() -> None:
            with store.transaction():
                store.put([beat])
                between.cut_after(Way.DOWN, 0)

        with pytest.raises(Contended):
            cut_off()
        with store.transaction():
            assert store.records(Replica) == [beat]
            store.put([replace(beat, beat=2)])
        assert store.records(Replica) == [replace(beat, beat=2)]


def test_a_commit_of_which_nothing_is_known_is_somebody_elses(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DOUBT_SECONDS", 0.1)
    with behind(server) as (store, between):
        upstream = between.upstream

        def cut_off() -> None:
            with store.transaction():
                change(store, store.load([1])[1])
                between.upstream = "127.0.0.1:1"
                between.cut_after(Way.DOWN, 0)

        with pytest.raises(StoreUnavailable):
            cut_off()
        between.upstream = upstream
        [one] = store.news(0, 9).jobs
        assert (one.revision, one.mine) == (2, False)
        with store.transaction():
            change(store, store.load([1])[1], JobState.QUEUED)
        assert store.news(0, 9).jobs[0].mine


@pytest.mark.parametrize("kept", [True, False])
def test_another_transaction_with_the_same_number_proves_nothing(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    # As after a crash of the server that lost the commit, and gave its number to somebody else.
    monkeypatch.setattr(writer, "DOUBT_SECONDS", 0.1)
    with behind(server) as (store, between):
        connection = store._writer

        def cut_off() -> None:
            with store.transaction():
                change(store, store.load([1])[1])
                store._connection._say("COMMIT; BEGIN")
                if not kept:
                    connection._say("UPDATE jobs SET writer = 1; COMMIT; BEGIN")
                between.cut_after(Way.UP, 0)

        if kept:
            cut_off()
        else:
            with pytest.raises(StoreUnavailable):
                cut_off()


def test_what_was_committed_outlives_a_kill_of_the_server(server: Postgres) -> None:
    with closing(PostgresStore(server.url(server.database()))) as store:
        fill(store, [])
        committed: list[int] = []
        refused: list[int] = []
        stop = Event()

        def commit() -> None:
            for number in itertools.count(1):
                if stop.is_set():
                    return
                try:
                    with store.transaction():
                        store.insert([replace(job(number), sequence=store.sequence(NOW))])
                    committed.append(number)
                except Contended:
                    refused.append(number)
                except StoreUnavailable:
                    time.sleep(0.001)

        def until(count: int) -> None:
            end = time.monotonic() + LONG
            while len(committed) < count:
                assert time.monotonic() < end
                time.sleep(0.001)

        with ThreadPoolExecutor(1) as threads:
            done = threads.submit(commit)
            for _ in range(2):
                until(len(committed) + 10)
                server.kill()
                server.start()
                until(len(committed) + 10)
            stop.set()
            done.result(LONG)
        stored = {one.job_id for one in store.find(ALL, 1_000_000)}
        assert stored.issuperset(committed)
        assert stored.isdisjoint(refused)


def test_a_beginning_that_fails_leaves_nothing_open(store: PostgresStore, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE origin RENAME TO elsewhere")
        try:
            with pytest.raises(psycopg.errors.UndefinedTable), store.transaction():
                pass
        finally:
            connection.execute("ALTER TABLE elsewhere RENAME TO origin")
    with store.transaction():
        store.put([QUEUE])
    assert store.records(Queue) == [QUEUE]
