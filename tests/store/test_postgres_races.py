"""Several at the same jobs at the same time: who waits, who takes others, who tries again, what all of them know."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from support.postgres_store import ALL, LONG, ask, change, place, shortly, until_somebody_waits
from support.store_samples import NOW, fill, job, lane
from towpath_server.core.job import Job, JobState
from towpath_server.core.records import LogChunk
from towpath_server.store.base import Contended, Due, HeldBy, InLane, IntegrityViolation, Matching, Query
from towpath_server.store.postgres import PostgresStore


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


def test_two_claim_different_jobs(store: PostgresStore, other: PostgresStore) -> None:
    fill(store, [job(number, due_time=NOW) for number in range(1, 5)])
    with store.transaction(), other.transaction():
        assert [one.job_id for one in store.find(InLane(1), 1)] == [1]
        assert [one.job_id for one in other.find(InLane(1), 2)] == [2, 3]
        assert [one.job_id for one in store.find(InLane(1), 9)] == [1, 4]
        assert [one.job_id for one in other.find(Due(NOW), 9)] == [2, 3]
    assert len(store.find(InLane(1), 9)) == 4


@pytest.mark.parametrize("query", [None, ALL, HeldBy("session")])
def test_who_waits_too_long_for_a_job_tries_again(url: str, query: Query | None) -> None:
    with closing(PostgresStore(url)) as store, closing(PostgresStore(shortly(url, "lock_timeout=50ms"))) as other:
        fill(store, [job(1, JobState.RUNNING)])
        with store.transaction():
            store.load([1])
            with pytest.raises(Contended), other.transaction():
                other.load([1]) if query is None else other.find(query, 9)
            assert len(other.find(ALL, 9)) == 1
        with other.transaction():
            assert set(other.load([1])) == {1}


def test_who_stands_still_with_jobs_in_its_hands_loses_them(url: str) -> None:
    slow = PostgresStore(shortly(url, "idle_in_transaction_session_timeout=50ms"))
    with closing(slow), closing(PostgresStore(url)) as other:
        fill(slow, [job(1), job(2)])

        def stand_still() -> None:
            with slow.transaction():
                change(slow, slow.load([1])[1])
                with other.transaction():
                    # It gets the job as soon as the server has given the other one up.
                    change(other, other.load([1])[1])
                change(slow, slow.load([2])[2])

        with pytest.raises(Contended):
            stand_still()
        assert [one.revision for one in other.find(ALL, 9)] == [1, 2]
        with slow.transaction():
            change(slow, slow.load([2])[2])


def test_a_scheduler_is_not_patient(url: str) -> None:
    plain = url.partition("&options=")[0]
    with closing(PostgresStore(plain)) as store, store.transaction():
        shown = {
            name: store._connection.value(f"SHOW {name}")
            for name in ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout", "jit")
        }
    assert shown == {
        "lock_timeout": "1s",
        "idle_in_transaction_session_timeout": "1s",
        "statement_timeout": "10s",
        "jit": "off",
    }


@pytest.mark.parametrize("wrong", ["job", "request", "dedupe", "sequence"])
def test_who_is_second_tries_again(store: PostgresStore, other: PostgresStore, url: str, wrong: str) -> None:
    clash: dict[str, Any] = (
        {"request_id": "r"} if wrong == "request" else {"dedupe_key": "k"} if wrong == "dedupe" else {}
    )
    second = replace(job(1 if wrong == "job" else 2, **clash), sequence=1 if wrong == "sequence" else 2)

    def insert() -> None:
        with other.transaction():
            other.insert([second])

    with ThreadPoolExecutor(1) as threads, store.transaction():
        store.add_lanes([lane()])
        store.insert([job(3)])
        store._connection._say("COMMIT; BEGIN")
        store.insert([job(1, **clash)])
        late = threads.submit(insert)
        until_somebody_waits(url)
        store._connection._say("COMMIT; BEGIN")
        assert type(late.exception(LONG)) is Contended
    assert len(store.find(ALL, 9)) == 2


def test_who_waited_for_a_job_sees_what_became_of_it(store: PostgresStore, other: PostgresStore, url: str) -> None:
    fill(store, [job(1, dedupe_key="k"), job(2)])

    def look(query: Query | None) -> list[Job]:
        with other.transaction():
            return list(other.load([1]).values()) if query is None else other.find(query, 9)

    for query in (None, Matching(tenant="acme", ascending=True, workspace="")):
        with ThreadPoolExecutor(1) as threads:
            with store.transaction():
                old = store.load([1])[1]
                late = threads.submit(look, query)
                until_somebody_waits(url)
                labels = {"n": str(old.revision)}
                definition = replace(old.definition, labels=labels)
                changed = change(store, old, JobState.QUEUED, definition=definition)
            assert late.result(LONG)[0] == changed


def test_who_waited_does_not_get_what_no_longer_fits(store: PostgresStore, other: PostgresStore, url: str) -> None:
    fill(store, [job(1), job(2)])

    def look() -> list[Job]:
        with other.transaction():
            return other.find(Matching(tenant="acme", states=(JobState.QUEUED,)), 9)

    with ThreadPoolExecutor(1) as threads:
        with store.transaction():
            change(store, store.load([1])[1])
            late = threads.submit(look)
            until_somebody_waits(url)
        assert [one.job_id for one in late.result(LONG)] == [2]


def test_logs_wait_for_who_deletes_their_job(store: PostgresStore, other: PostgresStore, url: str) -> None:
    fill(store, [job(1)])

    def log() -> None:
        with other.transaction():
            other.append_logs([LogChunk(job_id=1, attempt=1, offset=0, text="x", stream=1, time=NOW)])

    with ThreadPoolExecutor(1) as threads:
        with store.transaction():
            store.delete([1])
            late = threads.submit(log)
            until_somebody_waits(url)
        assert isinstance(late.exception(LONG), IntegrityViolation)
    assert ask(url, "SELECT count(*) FROM logs") == [(0,)]


TURNS = 40


def work(store: PostgresStore, number: int) -> int:
    """Creates, claims, ends and deletes jobs beside others; how often it had to try again."""
    rng = random.Random(number)
    again = 0

    def turn() -> None:
        with store.transaction():
            first = rng.randrange(1 << 40)
            store.insert([replace(job(first + n), sequence=store.sequence(NOW)) for n in range(3)])
            for one in store.find(InLane(1), 2):
                change(store, one)
            held = store.find(HeldBy("session"), 3)
            for one in held[:2]:
                change(store, one, JobState.SUCCEEDED)
            if rng.random() < 0.3:
                raise ZeroDivisionError

    for _ in range(TURNS):
        try:
            turn()
        except Contended:
            again += 1
        except ZeroDivisionError:
            continue
    return again


def test_who_follows_the_news_knows_all_that_was_stored(store: PostgresStore, url: str) -> None:
    with store.transaction():
        store.add_lanes([lane()])
    known: dict[int, tuple[int, int]] = {}
    seen: list[int] = []
    working = [PostgresStore(shortly(url, "lock_timeout=1s")) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads, closing(store.reader()) as reader:
        done = [threads.submit(work, one, number) for number, one in enumerate(working)]
        horizon, last = 0, False
        while not last:
            last = all(one.done() for one in done)
            with reader.transaction():
                news = reader.news(horizon, 50)
            # What is settled comes once, in order, and nothing comes in front of it any more.
            seen += [one.sequence for one in news.jobs if one.sequence <= news.horizon]
            known.update((one.job_id, (one.revision, one.sequence)) for one in news.jobs)
            last = last and not news.more
            horizon = news.horizon
        for one in done:
            assert one.result() < TURNS
    for one_store in working:
        one_store.close()
    stored = store.find(ALL, 10_000)
    assert {one.job_id: (one.revision, one.sequence) for one in stored} == known
    assert seen == sorted(set(seen))
    assert len(stored) > TURNS
