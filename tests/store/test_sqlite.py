"""What is SQLite's own: the file, its lock, its schema, its failures."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.store_samples import fill, job, lane
from towpath_server.core.errors import StoreFull, StoreUnavailable
from towpath_server.core.job import JobState
from towpath_server.store.base import (
    Matching,
    StoreRefused,
)
from towpath_server.store.sqlite import SqliteStore, schema
from towpath_server.store.sqlite.schema import APPLICATION_ID, Migration, migrations

S = JobState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "towpath.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path)
    yield opened
    opened.close()


def test_a_reopened_store_has_the_same_contents(path: Path) -> None:
    first = SqliteStore(path)
    jobs = [job(number, state, request_id=f"r{number}") for number, state in enumerate(S, 1)]
    fill(first, jobs)
    first.close()
    first.close()
    second = SqliteStore(str(path))
    assert second.load([one.job_id for one in jobs]) == {one.job_id: one for one in jobs}
    assert list(second.lanes()) == [lane()]
    second.close()


def test_commits_of_a_killed_process_are_there(path: Path) -> None:
    script = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from support.store_samples import fill, job
from towpath_server.store.sqlite import SqliteStore
store = SqliteStore({str(path)!r})
fill(store, [job(1)])
with store.transaction():
    store.insert([job(2)])
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    store = SqliteStore(path)
    assert store.find(Matching(tenant="acme"), 10) == [job(1)]
    store.close()


def test_a_second_scheduler_is_refused(path: Path, store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match=rf"another scheduler \(process {os.getpid()}\)"):
        SqliteStore(path)
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with pytest.raises(StoreRefused, match="another scheduler"):
        SqliteStore(link)
    store.close()
    SqliteStore(link).close()


def test_a_process_that_ended_holds_no_lock(path: Path) -> None:
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from towpath_server.store.sqlite import SqliteStore
store = SqliteStore({str(path)!r})
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(StoreRefused, match=f"process {child.pid}"):
            SqliteStore(path)
        child.kill()
    SqliteStore(path).close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_can_read_the_files(path: Path, store: SqliteStore) -> None:
    fill(store, [job(1)])
    names = ["", "-wal", "-shm", ".lock"]
    modes = [stat.S_IMODE(path.with_name(path.name + name).stat().st_mode) for name in names]
    assert modes == [0o600] * 4
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    SqliteStore(path).close()
    path.chmod(0o644)
    SqliteStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_settings_are_those_that_make_a_commit_last(store: SqliteStore) -> None:
    values = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "application_id": APPLICATION_ID}
    for name, value in values.items():
        assert store._connection.value(f"PRAGMA {name}") == value


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 999")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreRefused, match=r"newer Towpath \(schema 999.*Start that version again"):
        SqliteStore(path)
    assert path.read_bytes() == before


def of_another_program(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE jobs (job_id)")
    other.close()


def text(path: Path) -> None:
    path.write_text("not a database, but long enough to look like one " * 100)


def truncated(path: Path) -> None:
    store = SqliteStore(path)
    fill(store, [job(number) for number in range(1, 500)])
    store.close()
    os.truncate(path, path.stat().st_size // 2)


def overwritten(path: Path) -> None:
    store = SqliteStore(path)
    fill(store, [job(number) for number in range(1, 500)])
    store.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xaa" * 8192)


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [of_another_program, text, truncated, overwritten, a_folder])
def test_a_file_that_is_no_sound_store_is_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "towpath.db"
    spoil(path)
    with pytest.raises(StoreRefused, match=r"Choose another path|restore a backup"):
        SqliteStore(path)
    if path.is_file():
        path.unlink()
        for name in ("-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)
        SqliteStore(path).close()


def test_an_old_schema_is_migrated_with_its_contents(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SqliteStore(path)
    fill(old, [job(1)])
    old.close()
    newest = migrations()[-1].version
    more = Migration(
        newest + 1, "more", "CREATE TABLE more (x); INSERT INTO more VALUES (1); INSERT INTO more VALUES (2);"
    )
    monkeypatch.setattr(schema, "migrations", lambda: (*migrations(), more))
    new = SqliteStore(path)
    assert new.load([1]) == {1: job(1)}
    assert new._connection.value("PRAGMA user_version") == newest + 1
    assert new._connection.value("SELECT count(*) FROM more") == 2
    applied = new._connection.rows("SELECT version, name FROM migrations ORDER BY version")
    assert applied == [(step.version, step.name) for step in (*migrations(), more)]
    new.close()


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SqliteStore(path)
    fill(old, [job(1)])
    old.close()
    newest = migrations()[-1].version
    bad = Migration(newest + 1, "bad", "DROP TABLE logs; CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: (*migrations(), bad))
        with pytest.raises(StoreRefused, match="nowhere"):
            SqliteStore(path)
    again = SqliteStore(path)
    assert again.load([1]) == {1: job(1)}
    assert again.logs(1, 1, 0, 1) == []
    again.close()


def test_migrations_are_numbered_without_gaps() -> None:
    assert [step.version for step in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_full_disk_stops_writes_and_not_reads_and_passes(store: SqliteStore) -> None:
    fill(store, [job(1)])
    pages = store._connection.value("PRAGMA page_count")
    store._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    for _ in range(2):
        with pytest.raises(StoreFull), store.transaction():
            store.insert([job(2, spec=bytes(100_000))])
        assert store.find(Matching(tenant="acme"), 10) == [job(1)]
    store._connection.execute("PRAGMA max_page_count = 1000000")
    with store.transaction():
        store.insert([job(2, spec=bytes(100_000))])
    assert len(store.find(Matching(tenant="acme"), 10)) == 2


def test_a_file_that_another_process_holds_is_unavailable(path: Path, store: SqliteStore) -> None:
    fill(store, [job(1)])
    store._connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable), store.transaction():
        store.delete([1])
    other.execute("ROLLBACK")
    other.close()
    with store.transaction():
        store.delete([1])


def test_a_copy_of_the_open_file_by_sqlite_is_a_store(path: Path, store: SqliteStore, tmp_path: Path) -> None:
    fill(store, [job(1)])
    copy = tmp_path / "copy.db"
    store._connection.execute("VACUUM INTO ?", (str(copy),))
    restored = SqliteStore(copy)
    assert restored.load([1]) == {1: job(1)}
    restored.close()


def test_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 0))
    with pytest.raises(StoreRefused, match=r"Towpath needs 3\.34"):
        SqliteStore(path)
