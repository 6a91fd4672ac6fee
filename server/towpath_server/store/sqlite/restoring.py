"""Putting a copy in the place of a store, which is kept beside it. Whenever this ends, one whole store is in place."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from towpath_server.core.errors import StoreFull, StoreUnavailable
from towpath_server.store.base import StoreRefused
from towpath_server.store.sqlite import files, schema, snapshot
from towpath_server.store.sqlite.lockfile import Locked, LockFile, Owner
from towpath_server.store.sqlite.snapshot import OnProgress, Snapshot

# Watchers may know greater numbers than the backup does: to them, every job has changed.
_NUMBERED_ANEW = """
BEGIN IMMEDIATE;
UPDATE last_sequence SET sequence = max(sequence, {now});
UPDATE jobs SET sequence = numbered.number FROM (
  SELECT j.job_id, last.sequence + row_number() OVER (ORDER BY j.sequence) AS number FROM jobs j, last_sequence last
) AS numbered WHERE jobs.job_id = numbered.job_id;
UPDATE last_sequence SET sequence = max(sequence, (SELECT ifnull(max(sequence), 0) FROM jobs));
COMMIT;
"""
# What is being made has these names, and is removed by the next restore where this one is cut off.
_NEW, _PART = ".restoring", ".setting-aside"


@dataclass(frozen=True, slots=True)
class Restored:
    """What is in place now, and where the store of before is kept, or the log that was left of it, if there was one."""

    now: Snapshot
    aside: Path | None


def put_back(source: Path, path: Path, on_progress: OnProgress = lambda done, pages: None) -> Restored:
    """Makes a copy of the store at `source` the store at `path`, brought up to this program's schema.

    Raises `StoreRefused`; the store at `path` is then what it was before.
    """
    snapshot.demand_file(source)
    _demand_another(source, path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = files.owner_of(path)
        lock = LockFile(path.with_name(f"{path.name}.lock"), owner)
    except Locked as error:
        raise StoreRefused(f"{path} is in use by a scheduler (process {error}). Stop it first.") from error
    except OSError as error:
        raise StoreRefused(f"{path} cannot be locked ({error.strerror}). Put it on a local disk.") from error
    try:
        return _put_back(source, path, owner, on_progress)
    except OSError as error:
        raise StoreRefused(f"{path} cannot be written ({error.strerror}).") from error
    finally:
        lock.release()


def _demand_another(source: Path, path: Path) -> None:
    if path.exists() and path.samefile(source):
        raise StoreRefused(f"{source} is the store itself. Give a backup of it.")
    for left in (path.with_name(f"{path.name}{ending}") for ending in (_NEW, _PART)):
        if left.exists() and left.samefile(source):
            raise StoreRefused(f"{source} was left by a restore that was cut off. Give the backup itself.")


def _put_back(source: Path, path: Path, owner: Owner | None, on_progress: OnProgress) -> Restored:
    new = path.with_name(f"{path.name}{_NEW}")
    try:
        files.create_private(new, owner)
        snapshot.copy(source, new, on_progress)
        # Any migration is done before the swap: where it fails, the store of before is still in place.
        with closing(schema.open_checked(new)) as connection:
            connection.script(_NUMBERED_ANEW.format(now=time.time_ns() // 1000))
        found = snapshot.look(new, source)
        snapshot.sync(new)
        aside = _set_aside(path, owner)
        new.replace(path)
        snapshot.sync(path.parent)
    except (StoreFull, StoreUnavailable) as error:
        raise StoreRefused(f"{new} cannot be written ({error.__cause__}). Is there room on its disk?") from error
    finally:
        files.remove(new)
    return Restored(replace(found, path=path), aside)


def _set_aside(path: Path, owner: Owner | None) -> Path | None:
    """Copies the present store to a name of its own, so that the swap that follows is one rename."""
    aside = _free_name(path)
    kept = []
    if path.exists():
        _fold(path)
        _copy_aside(path, aside, owner)
        kept.append(aside)
    # What is not folded in goes along, also where its file is gone. The new store must not find it: it would take it
    # for its own.
    for ending in files.BESIDE:
        log = aside.with_name(f"{aside.name}{ending}")
        with suppress(FileNotFoundError):
            kept.append(path.with_name(f"{path.name}{ending}").rename(log))
    snapshot.sync(path.parent)
    return kept[0] if kept else None


def _copy_aside(path: Path, aside: Path, owner: Owner | None) -> None:
    # A second link to the file would do, but whoever is cut off then leaves a store with two names, which is refused.
    part = path.with_name(f"{path.name}{_PART}")
    try:
        files.create_private(part, owner)
        shutil.copyfile(path, part)
        snapshot.sync(part)
        part.rename(aside)
    finally:
        files.remove(part)


def _fold(path: Path) -> None:
    """Moves the write-ahead log into the file, unless it is damaged. This also shows that nobody else has it open."""
    try:
        # First to read only: on closing, SQLite deletes the log of a file that it cannot read.
        with closing(_open(path, "ro")) as looked:
            _demand_ours(looked, path)
        with closing(_open(path, "rw")) as folded:
            folded.execute("PRAGMA synchronous = FULL")
            folded.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreRefused(f"{path} is open in another program. Close that, or wait for its end.") from error
        raise StoreRefused(f"{path} cannot be put aside ({error}).") from error


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=1.0, isolation_level=None)


def _demand_ours(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != schema.APPLICATION_ID and objects:
        raise StoreRefused(f"{path} is the database of another program. Choose another path for the store.")


def _free_name(path: Path) -> Path:
    moment = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    first = path.with_name(f"{path.name}.before-restore-{moment}")
    names = (first.with_name(f"{first.name}.{number}") if number else first for number in range(1000))
    return next(name for name in names if not any(one.exists() for one in files.all_of(name)))
