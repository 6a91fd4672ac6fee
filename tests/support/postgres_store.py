"""Stores on the tests' own PostgreSQL: one database for all the tests of a process, emptied for each."""

from __future__ import annotations

import time
from functools import cache
from urllib.parse import quote

from support.postgres import shared
from support.store_samples import NOW, after, at
from towpath_server.core.job import Job, JobState
from towpath_server.core.records import Queue
from towpath_server.store.base import Matching
from towpath_server.store.postgres import PostgresStore
from towpath_server.store.rows import Row

import psycopg  # isort: skip - after support.postgres, which skips where it is not installed

ALL = Matching(tenant="acme")
QUEUE = Queue(tenant="acme", name="slow", create_time=NOW)
# Seconds: far more than anything takes.
LONG = 60
# What every database of a store holds from the beginning.
KEPT = ("migrations", "origin")
# A test on a busy machine may stand still for longer than a scheduler may.
PATIENT = "-c idle_in_transaction_session_timeout=60s -c lock_timeout=20s"


@cache
def database() -> str:
    """The database that is emptied for each test."""
    return shared().database()


def place() -> str:
    """The address of an empty store."""
    address = patient(shared().url(database()))
    shared().clear(database(), KEPT)
    return address


def emptied() -> PostgresStore:
    """An empty store; those that were opened before have been closed."""
    return PostgresStore(place())


def kept() -> PostgresStore:
    """What the last one has left."""
    return PostgresStore(patient(shared().url(database())))


def patient(url: str) -> str:
    """The same database, with a server that waits longer than it should."""
    return f"{url}{'&' if '?' in url else '?'}options={quote(PATIENT)}"


def ask(url: str, sql: str) -> list[Row]:
    with psycopg.connect(url, autocommit=True, application_name="test") as connection:
        return connection.execute(sql.encode()).fetchall()


def cut(url: str) -> None:
    """End all connections of stores, as an administrator does."""
    ask(url, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name LIKE 'towpath%'")


def shortly(url: str, setting: str) -> str:
    """The same database, with a server that waits less long."""
    return f"{url}%20-c%20{quote(setting)}"


def change(store: PostgresStore, one: Job, state: JobState = JobState.LEASED, **changes: object) -> Job:
    changed = after(at(one, state), sequence=store.sequence(NOW), **changes)
    store.save([changed])
    return changed


def until_somebody_waits(url: str) -> None:
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        if ask(url, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            return
        time.sleep(0.005)
    raise AssertionError("nobody waits for a lock")
