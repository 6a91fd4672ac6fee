"""`migrate` expands while older schedulers run, and contracts once they are gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from support.postgres import shared
from support.store_samples import NOW, fill, job
from towpath_server.core.records import Replica
from towpath_server.store.base import StoreRefused
from towpath_server.store.postgres import PostgresStore, schema
from towpath_server.store.postgres.schema import Migration, MigrationReport, migrate
from towpath_server.store.sqlite import SqliteStore
from towpath_server.store.sqlite import schema as sqlite_schema
from towpath_server.store.sqlite import upgrading as sqlite

DATA = Path(__file__).parents[1] / "data"
FIRST = schema.migrations()
NUMBER = FIRST[-1].version
EXPAND = Migration(NUMBER + 1, "expand", NUMBER, "ALTER TABLE jobs ADD COLUMN more text")
CONTRACT = Migration(NUMBER + 2, "contract", NUMBER + 1, "ALTER TABLE jobs DROP COLUMN more", contracts=True)


@pytest.fixture
def url() -> Iterator[str]:
    """Of an empty database."""
    name = shared().database()
    yield shared().url(name)
    shared().drop(name)


def steps(monkeypatch: pytest.MonkeyPatch, *more: Migration) -> None:
    """From now on the program knows these too."""
    monkeypatch.setattr(schema, "migrations", lambda: (*FIRST, *more))


def names(*of: Migration) -> tuple[str, ...]:
    return tuple(f"{one.version:04} {one.name}" for one in of)


def test_what_would_stop_a_running_scheduler_is_held_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = PostgresStore(url)
    steps(monkeypatch, EXPAND, CONTRACT)
    assert migrate(url) == MigrationReport(NUMBER, NUMBER + 1, names(EXPAND), names(CONTRACT))
    assert migrate(url) == MigrationReport(NUMBER + 1, NUMBER + 1, (), names(CONTRACT))
    # The new ones work beside the old one, without that step.
    with closing(PostgresStore(url)) as new:
        fill(new, [job(2)])
        fill(old, [job(1)])
        old.close()
        assert migrate(url, dry_run=True) == MigrationReport(NUMBER + 1, NUMBER + 2, names(CONTRACT))
    # One of the next version does not mind.
    steps(monkeypatch, EXPAND)
    with closing(PostgresStore(url)):
        steps(monkeypatch, EXPAND, CONTRACT)
        assert migrate(url) == MigrationReport(NUMBER + 1, NUMBER + 2, names(CONTRACT))
    with closing(PostgresStore(url)) as store:
        assert set(store.load([1, 2])) == {1, 2}


def test_one_that_died_is_taken_for_an_old_one_until_it_is_buried(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Replica(replica_id=1, life="one", beat=3, start_time=NOW)
    with closing(PostgresStore(url)) as store, store.transaction():
        store.put([dead])
    steps(monkeypatch, EXPAND, CONTRACT)
    assert migrate(url, dry_run=True).held_back == names(CONTRACT)
    steps(monkeypatch)
    with closing(PostgresStore(url)) as store, store.transaction():
        store.remove([dead])
    steps(monkeypatch, EXPAND, CONTRACT)
    assert migrate(url) == MigrationReport(NUMBER, NUMBER + 2, names(EXPAND, CONTRACT))


def test_a_dry_run_changes_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert migrate(url, dry_run=True) == MigrationReport(0, NUMBER, names(*FIRST))
    assert schema.examine(schema.read(url)) == 0
    PostgresStore(url).close()
    steps(monkeypatch, EXPAND)
    for _ in range(2):
        assert migrate(url, dry_run=True) == MigrationReport(NUMBER, NUMBER + 1, names(EXPAND))


def test_two_at_once_do_it_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PostgresStore(url).close()
    steps(monkeypatch, EXPAND)
    with ThreadPoolExecutor(2) as threads:
        reports = sorted(threads.map(migrate, [url] * 2), key=lambda report: report.before)
    assert reports == [
        MigrationReport(NUMBER, NUMBER + 1, names(EXPAND)),
        MigrationReport(NUMBER + 1, NUMBER + 1, ()),
    ]


def test_a_sqlite_file_that_nobody_holds_is_brought_up_to_date(tmp_path: Path) -> None:
    newest = sqlite_schema.migrations()[-1].version
    path = Path(shutil.copy(DATA / "store-0001.sqlite", tmp_path / "towpath.db"))
    before, after, applied = sqlite.migrate(path, dry_run=True)
    assert (before, after, len(applied)) == (1, newest, newest - 1)
    assert sqlite_schema.examine(path) == 1
    assert sqlite.migrate(path) == (1, newest, applied)
    assert sqlite.migrate(path) == (newest, newest, ())
    with closing(SqliteStore(path)), pytest.raises(StoreRefused, match="in use by another scheduler"):
        sqlite.migrate(path)
    with pytest.raises(StoreRefused, match="There is no file"):
        sqlite.migrate(tmp_path / "nothing.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreRefused, match="is empty"):
        sqlite.migrate(tmp_path / "empty.db")
