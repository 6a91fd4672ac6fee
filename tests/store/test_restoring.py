"""A copy that takes the place of a store, or is written over one: what lies beside it, who owns it, and its numbers."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from support.killed_restore import asides, jobs_in
from support.store_samples import after, fill, job
from towpath_server.store.base import Matching, StoreRefused
from towpath_server.store.sqlite import SqliteStore, restoring, snapshot

BESIDE = ("-wal", "-shm", "-journal")
SERVICE = (12345, 12346)


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Path:
    """A store of the jobs 1 and 2 that nobody has open."""
    path = tmp_path / "data" / "towpath.db"
    opened = SqliteStore(path)
    fill(opened, [job(1), job(2)])
    opened.close()
    return path


@pytest.fixture(name="backup")
def _backup(store: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    copied = tmp_path / "backup.sqlite"
    snapshot.take(store, copied)
    return copied


def beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")


def killed(folder: Path) -> Path:
    """A store of the jobs 3 to 5 whose scheduler died: all of them lie in the log."""
    alive, dead = folder / "alive" / "towpath.db", folder / "dead" / "towpath.db"
    opened = SqliteStore(alive)
    fill(opened, [job(one) for one in (3, 4, 5)])
    shutil.copytree(alive.parent, dead.parent)
    opened.close()
    return dead


def test_a_log_whose_file_is_gone_is_not_read_into_what_is_restored(backup: Path, tmp_path: Path) -> None:
    path = killed(tmp_path)
    log = beside(path, "-wal").read_bytes()
    assert log
    path.unlink()
    restored = restoring.put_back(backup, path)
    assert not [ending for ending in BESIDE if beside(path, ending).exists()]
    assert jobs_in(path) == {1, 2}
    assert restored.aside is not None
    assert restored.aside.name.startswith("towpath.db.before-restore-")
    assert restored.aside.name.endswith("-wal")
    assert restored.aside.read_bytes() == log
    # The next one neither takes that log's name nor its place.
    again = restoring.put_back(backup, path)
    assert again.aside is not None
    assert not beside(again.aside, "-wal").exists()
    assert restored.aside.read_bytes() == log


def test_what_lies_in_the_log_of_a_store_that_was_killed_is_kept(backup: Path, tmp_path: Path) -> None:
    path = killed(tmp_path)
    restored = restoring.put_back(backup, path)
    assert not [ending for ending in BESIDE if beside(path, ending).exists()]
    assert jobs_in(path) == {1, 2}
    assert restored.aside is not None
    assert jobs_in(restored.aside) == {3, 4, 5}


@pytest.mark.parametrize("has_file", [True, False])
def test_no_backup_is_written_beside_the_log_of_another_store(store: Path, tmp_path: Path, has_file: bool) -> None:
    target = killed(tmp_path)
    if not has_file:
        target.unlink()
    before = {path.name: path.read_bytes() for path in target.parent.iterdir()}
    with pytest.raises(StoreRefused, match=r"towpath\.db-wal is there.*Choose another name"):
        snapshot.take(store, target)
    after_it = {path.name: path.read_bytes() for path in target.parent.iterdir() if not path.name.endswith(".lock")}
    assert after_it == {name: content for name, content in before.items() if not name.endswith(".lock")}


def test_no_backup_is_written_over_a_store_that_a_scheduler_has_open(store: Path, backup: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "towpath.db"
    opened = SqliteStore(other)
    fill(opened, [job(9)])
    # So that the lock alone is what refuses.
    opened._connection.execute("PRAGMA journal_mode = DELETE")
    with pytest.raises(StoreRefused, match=rf"in use by a scheduler \(process {os.getpid()}\)"):
        snapshot.take(store, other)
    opened.close()
    assert jobs_in(other) == {9}
    # One that nobody has open is written over, as are copies, which get no lock beside them.
    snapshot.take(other, tmp_path / "looked at")
    snapshot.take(store, other)
    assert jobs_in(other) == {1, 2}
    snapshot.take(store, backup)
    assert not beside(backup, ".lock").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("has_file", [True, False])
def test_what_root_restores_belongs_to_the_owner_of_the_store(store: Path, backup: Path, has_file: bool) -> None:
    os.chown(store if has_file else store.parent, *SERVICE)
    beside(store, ".lock").unlink()
    if not has_file:
        store.unlink()
    restoring.put_back(backup, store)
    made = [store, beside(store, ".lock"), *asides(store)]
    assert len(made) == (3 if has_file else 2)
    assert {((found := path.stat()).st_uid, found.st_gid, found.st_mode & 0o777) for path in made} == {
        (*SERVICE, 0o600)
    }


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_lock_that_is_a_link_is_refused(store: Path, backup: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("words", encoding="utf-8")
    beside(store, ".lock").unlink()
    beside(store, ".lock").symlink_to(precious)
    with pytest.raises(StoreRefused, match="cannot be locked"):
        restoring.put_back(backup, store)
    assert precious.read_text(encoding="utf-8") == "words"


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("PRAGMA max_page_count = 1; CREATE TABLE more (than, fits);", "disk is full"),
        ("PRAGMA query_only = ON;", "readonly"),
    ],
    ids=["full", "unavailable"],
)
def test_a_disk_that_fails_while_jobs_are_numbered_anew_leaves_the_store(
    store: Path, backup: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, words: str
) -> None:
    before = store.read_bytes()
    monkeypatch.setattr(restoring, "_NUMBERED_ANEW", trouble + restoring._NUMBERED_ANEW)
    with pytest.raises(StoreRefused, match=rf"cannot be written \(.*{words}.*room on its disk"):
        restoring.put_back(backup, store)
    assert store.read_bytes() == before
    assert not [*store.parent.glob("*.restoring*"), *asides(store)]


@pytest.mark.parametrize("ending", [".restoring", ".setting-aside"])
def test_what_a_restore_that_was_cut_off_left_is_no_backup_and_is_not_lost(
    store: Path, backup: Path, ending: str
) -> None:
    left = Path(shutil.copy(backup, beside(store, ending)))
    with pytest.raises(StoreRefused, match=r"left by a restore that was cut off. Give the backup itself"):
        restoring.put_back(left, store)
    assert left.read_bytes() == backup.read_bytes()
    assert not asides(store)


def test_after_a_restore_every_job_has_a_greater_number_than_any_had_before(store: Path, tmp_path: Path) -> None:
    copied = tmp_path / "numbered.sqlite"
    opened = SqliteStore(store)

    def change_all() -> int:
        """Each job is changed, as the scheduler does it; the greatest number that was given out."""
        with opened.transaction():
            now = time.time_ns() // 1000
            opened.save([after(one, sequence=opened.sequence(now)) for one in opened.load([1, 2]).values()])
        return max(numbers(opened).values())

    change_all()
    snapshot.take(store, copied)
    last = [change_all() for _ in range(5)][-1]
    opened.close()
    restoring.put_back(copied, store)
    opened = SqliteStore(store)
    anew = numbers(opened)
    # In the order of before, and the next change goes on after them.
    assert last < anew[1] < anew[2] < opened.sequence(0)
    told = opened.find(Matching(tenant="acme", changed_after=last), 10)
    opened.close()
    assert [one.job_id for one in told] == [1, 2]


def numbers(of: SqliteStore) -> dict[int, int]:
    return {one.job_id: one.sequence for one in of.find(Matching(tenant="acme"), 10)}
