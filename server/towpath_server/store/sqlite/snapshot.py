"""Copies of a store: of one moment, checked as a whole, and on disk before they have their name."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from towpath_server.store.base import StoreRefused
from towpath_server.store.sqlite import schema
from towpath_server.store.sqlite.lockfile import Locked, LockFile

# Pages done, and pages in all.
OnProgress = Callable[[int, int], None]

_STEP_PAGES = 1000
_SUMMARY = "SELECT count(*), ifnull(sum(state < 8), 0), max(update_time) FROM jobs"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a copy holds: `active` jobs are not final, `time` is the latest change (microseconds), `size` in bytes."""

    path: Path
    schema: int
    size: int
    jobs: int
    active: int
    time: int | None


def take(source: Path, target: Path, on_progress: OnProgress = lambda done, pages: None) -> Snapshot:
    """Copies the store at `source`, which may be in use, to `target`, which it replaces.

    Raises `StoreRefused`; `target` is then what it was before.
    """
    try:
        with _kept_free(target):
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
            os.close(descriptor)
            part = Path(name)
            try:
                found = copy(source, part, on_progress)
                sync(part)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
            sync(target.parent)
    except OSError as error:
        raise StoreRefused(f"{target} cannot be written ({error.strerror}). Choose another place.") from error
    return replace(found, path=target)


@contextmanager
def _kept_free(target: Path) -> Iterator[None]:
    """Keeps schedulers away from `target`. Raises `StoreRefused` where one has it open, or died and left its log."""
    lock_file = target.with_name(f"{target.name}.lock")
    try:
        # A store that a scheduler ever opened has one. None is made, which would stay beside the copy.
        lock = LockFile(lock_file) if lock_file.exists() else None
    except Locked as error:
        raise StoreRefused(f"{target} is in use by a scheduler (process {error}). Choose another file.") from error
    try:
        for log in (target.with_name(f"{target.name}{ending}") for ending in ("-wal", "-journal")):
            # Who only looks at a store leaves an empty one.
            if log.exists() and log.stat().st_size:
                raise StoreRefused(
                    f"{log} is there: SQLite would read what it holds into the copy. Choose another name."
                )
        yield
    finally:
        if lock is not None:
            lock.release()


def copy(source: Path, target: Path, on_progress: OnProgress) -> Snapshot:
    """Copies a store as it is at one moment, with what lies in its write-ahead log, and proves all of it sound."""
    demand_file(source)
    if not schema.examine(source):
        raise StoreRefused(f"{source} is empty. There is nothing to copy.")
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, isolation_level=None)) as held,
            closing(sqlite3.connect(target, isolation_level=None)) as written,
        ):
            # It has no name yet and is checked and synced as a whole.
            written.execute("PRAGMA synchronous = OFF")
            # All steps read the moment that this transaction began with. Without it each commit of somebody else
            # begins the copy anew, which under load never ended.
            held.execute("BEGIN")
            held.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            held.backup(
                written, pages=_STEP_PAGES, progress=lambda status, left, pages: on_progress(pages - left, pages)
            )
            # So that it is one file, also where nobody may write beside it.
            written.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise StoreRefused(f"{source} cannot be copied to {target.parent} ({error}).") from error
    return look(target, source)


def look(path: Path, shown: Path) -> Snapshot:
    """What a store holds, once all of it has proved sound; `shown` is its name in words."""
    version = schema.examine(path, thorough=True, shown=shown)
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            jobs, active, time = connection.execute(_SUMMARY).fetchone()
    except sqlite3.Error as error:
        raise StoreRefused(schema.explain(shown, error)) from error
    return Snapshot(path, version, path.stat().st_size, jobs, active, time)


def demand_file(path: Path) -> None:
    """Raises `StoreRefused` unless there is such a file: SQLite would make one."""
    if not path.is_file():
        raise StoreRefused(f"There is no file {path}. Look at the path.")


def sync(path: Path) -> None:
    """Returns once a file, or the names in a folder, are on disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
