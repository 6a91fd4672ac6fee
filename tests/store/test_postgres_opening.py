"""Which databases are a store, which are made one, and what is said of the others: never the password."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from support.postgres import Postgres, shared
from support.store_samples import fill, job
from towpath_server.store.base import Matching, StoreRefused
from towpath_server.store.postgres import PostgresStore, address, schema
from towpath_server.store.postgres.schema import Migration, MigrationReport, migrate
from towpath_server.store.rows import Row

import psycopg  # isort: skip - after support.postgres, which skips these tests where it is not installed

SECRET = "s3cr3t"
NEWEST = schema.migrations()[-1].version
MORE = Migration(NEWEST + 1, "more", 1, "ALTER TABLE jobs ADD COLUMN more text")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that asks for a password."""
    shared()  # it skips where there is none
    own = Postgres(tcp=True)
    yield own
    own.remove()


@pytest.fixture
def url() -> Iterator[str]:
    """Of a new database."""
    name = shared().database()
    yield shared().url(name)
    shared().drop(name)


def run(url: str, sql: str) -> list[Row]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


def refusal(url: str) -> str:
    with pytest.raises(StoreRefused) as refused:
        PostgresStore(url)
    told = "".join(traceback.format_exception(refused.value))
    assert SECRET not in told
    return str(refused.value)


def test_an_empty_database_becomes_a_store_that_lasts(url: str) -> None:
    with closing(PostgresStore(url)) as store:
        fill(store, [job(1)])
    with closing(PostgresStore(url)) as store:
        assert store.find(Matching(tenant="acme"), 9) == [job(1)]
    steps = [(step.version, step.name, step.oldest_reader) for step in schema.migrations()]
    assert run(url, "SELECT version, name, oldest_reader FROM migrations ORDER BY version") == steps


def test_several_may_be_the_first(url: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        stores = list(threads.map(PostgresStore, [url] * 3))
    fill(stores[0], [job(1)])
    for store in stores:
        assert set(store.load([1])) == {1}
        store.close()


def test_a_schema_of_its_own_is_a_store_of_its_own(url: str) -> None:
    run(url, "CREATE SCHEMA mine; CREATE TABLE strangers (id int)")
    assert "another program" in refusal(url)
    mine = f"{url}&options=-c%20search_path%3Dmine"
    with closing(PostgresStore(mine)) as store, closing(store.listener()) as line:
        fill(store, [job(1)])
        assert line.wait(20) is not None
    assert run(url, "SELECT count(*) FROM mine.jobs") == [(1,)]
    assert "no schema" in refusal(f"{url}&options=-c%20search_path%3Dnone")


def test_a_newer_schema_is_refused_unless_it_only_expands(url: str) -> None:
    PostgresStore(url).close()
    run(url, f"INSERT INTO migrations VALUES ({NEWEST + 1}, 'expand', {NEWEST}, 0)")
    with closing(PostgresStore(url)) as store:
        fill(store, [job(1)])
    assert migrate(url) == MigrationReport(NEWEST + 1, NEWEST + 1, ())
    run(url, f"INSERT INTO migrations VALUES ({NEWEST + 2}, 'contract', {NEWEST + 1}, 0)")
    assert f"newer Towpath (schema {NEWEST + 2}, this one knows {NEWEST})" in refusal(url)
    with pytest.raises(StoreRefused, match="newer"):
        migrate(url)


def test_an_older_schema_waits_for_migrate(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(PostgresStore(url)) as store:
        fill(store, [job(1)])
        first = schema.migrations()
        monkeypatch.setattr(schema, "migrations", lambda: (*first, MORE))
        assert "`towpath-server migrate`" in refusal(url)
        assert migrate(url) == MigrationReport(NEWEST, NEWEST + 1, (f"{NEWEST + 1:04} more",))
        assert migrate(url) == MigrationReport(NEWEST + 1, NEWEST + 1, ())
        # Who began before it goes on.
        assert set(store.load([1])) == {1}
        with store.transaction():
            store.insert([job(2)])
    with closing(PostgresStore(url)) as store:
        assert set(store.load([1, 2])) == {1, 2}


def test_a_step_that_fails_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PostgresStore(url).close()
    wrong = Migration(NEWEST + 2, "wrong", 1, "SELECT 1 FROM nowhere")
    first = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: (*first, MORE, wrong))
    with pytest.raises(StoreRefused, match="nowhere"):
        migrate(url)
    assert run(url, "SELECT max(version) FROM migrations") == [(NEWEST,)]
    assert run(url, "SELECT 1 FROM pg_attribute WHERE attname = 'more' AND attrelid = 'jobs'::regclass") == []


def test_a_schema_change_gives_way_to_who_works(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "TRIES", 2)
    monkeypatch.setattr(schema, "_SETTINGS", {"lock_timeout": "20ms"})
    first = schema.migrations()
    with closing(PostgresStore(f"{url}&options=-c%20idle_in_transaction_session_timeout%3D60s")) as store:
        fill(store, [job(1)])
        monkeypatch.setattr(schema, "migrations", lambda: (*first, MORE))
        with store.transaction():
            store.load([1])
            with pytest.raises(StoreRefused, match="too busy"):
                migrate(url)
    assert migrate(url).after == NEWEST + 1


def test_who_may_not_is_told_so(server: Postgres) -> None:
    name = server.database()
    plain = server.url(name, tcp=True)
    run(plain, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    head, _, rest = plain.removeprefix("postgresql://").partition("@")
    user, _, password = head.partition(":")
    assert "password" in refusal(f"postgresql://{user}:{SECRET}@{rest}")
    assert "Create it there" in refusal(f"postgresql://{user}:{password}@{rest.replace(name, 'nowhere')}")
    assert "cannot be reached" in refusal(f"postgresql://{user}:{SECRET}@127.0.0.1:1/{name}")
    assert "host" in refusal(f"postgresql://{user}:{SECRET}@nowhere.invalid/{name}")
    with closing(PostgresStore(plain)) as store:
        assert password not in f"{store!r} {store.shown} {vars(store)}"
        assert store.shown == f"postgresql://{user}@{rest}"
        assert store.warnings


def test_a_database_of_another_alphabet_is_refused(server: Postgres) -> None:
    server._admin("postgres").execute(
        "CREATE DATABASE narrow TEMPLATE template0 ENCODING 'SQL_ASCII' OWNER towpath LOCALE 'C'"
    )
    assert "SQL_ASCII" in refusal(server.url("narrow", tcp=True))


@pytest.mark.parametrize(
    "wrong",
    [
        f"postgresql://ann:{SECRET}/x@host/towpath",
        f"postgresql://ann:{SECRET}@x@host/towpath",
        f"postgresql://ann:x@{SECRET}@host/towpath",
        f"postgresql://ann:{SECRET}%x@host/towpath",
        f"postgresql://ann:1/{SECRET}@host/towpath",
        f"postgresql://ann:{SECRET}@[host/towpath",
        f"sqlite://{SECRET}",
    ],
)
def test_an_address_that_cannot_be_read_is_not_shown(wrong: str) -> None:
    assert "%XX" in refusal(wrong)


def test_several_hosts_ask_for_the_primary() -> None:
    read = address.read(f"postgresql://ann:{SECRET}@a,b:5433/towpath?options=-c%20lock_timeout%3D5s&connect_timeout=2")
    given = read.with_settings({"lock_timeout": "1s"})
    assert (given["host"], given["target_session_attrs"]) == ("a,b", "read-write")
    assert (given["options"], given["connect_timeout"]) == ("-c lock_timeout=1s -c lock_timeout=5s", "2")
    assert given["password"] == SECRET
    assert SECRET not in f"{read!r} {read.shown} {read.hide(f'no {SECRET}')}"
    assert "target_session_attrs" not in address.read("postgresql://ann@a/towpath").with_settings({})


def test_a_password_with_blanks_is_hidden_too() -> None:
    read = address.read("postgresql://ann:two%20%20words@host/db")
    assert read.hide("invalid value:\n two  words") == "invalid value: ***"
