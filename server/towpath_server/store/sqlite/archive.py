"""A SQLite file as a whole: read from one end to the other, or made anew."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from towpath_server.core.errors import StoreFull, StoreUnavailable
from towpath_server.core.job import SECOND, Attempt, Job
from towpath_server.core.records import AuditEvent, LogChunk
from towpath_server.store import side_rows
from towpath_server.store.archive import PAGE_ROWS, Archive, AttemptKey, LogKey, first_page
from towpath_server.store.base import Store, StoreRefused
from towpath_server.store.sqlite import files, schema, snapshot, statements
from towpath_server.store.sqlite.connection import Connection
from towpath_server.store.sqlite.lockfile import Locked, LockFile
from towpath_server.store.sqlite.store import SqliteStore, SqliteTables

_SQL = statements.named("archive")
_JOBS = statements.named("jobs")
# What is being made has this name, and is removed by the next move where this one is cut off.
_NEW = ".moving"


class SqliteArchive(SqliteTables):
    """See `Archive`. To read only."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, Connection(path, read_only=True))

    def next_jobs(self, after: int) -> list[Job]:
        """See `Archive`."""
        found = self._connection.rows(_SQL["jobs"], {"after": after, "limit": PAGE_ROWS})
        job_ids = first_page((int(job_id), int(size)) for job_id, size in found)
        return sorted(self._jobs(job_ids), key=lambda job: job.job_id)

    def next_attempts(self, after: AttemptKey) -> list[Attempt]:
        """See `Archive`."""
        first = dict(zip(("job_id", "number"), after, strict=True))
        found = self._connection.rows(_SQL["attempts"], {**first, "limit": PAGE_ROWS})
        page = first_page(((job_id, number), size) for job_id, number, size in found)
        if not page:
            return []
        last = dict(zip(("last_job_id", "last_number"), page[-1], strict=True))
        return [side_rows.read_attempt(row) for row in self._connection.rows(_SQL["attempts_between"], first | last)]

    def next_logs(self, after: LogKey) -> list[LogChunk]:
        """See `Archive`."""
        first = dict(zip(("job_id", "attempt", "offset"), after, strict=True))
        found = self._connection.rows(_SQL["logs"], {**first, "limit": PAGE_ROWS})
        page = first_page((tuple(key), size) for *key, size in found)
        if not page:
            return []
        last = dict(zip(("last_job_id", "last_attempt", "last_offset"), page[-1], strict=True))
        return [side_rows.read_log(row) for row in self._connection.rows(_SQL["logs_between"], first | last)]

    def next_audit(self, after: int) -> list[AuditEvent]:
        """See `Archive`."""
        found = self._connection.rows(_SQL["audit"], {"after": after, "limit": PAGE_ROWS})
        return [side_rows.read_audit(row) for row in found]

    def size(self) -> int:
        """See `Archive`."""
        return int(self._connection.value(_SQL["size"]))

    def reached(self) -> int:
        """See `Archive`."""
        # A scheduler gives out numbers that lie up to a moment ahead of its clock before it stores them.
        return max(int(self._connection.value(_JOBS["last_sequence"])), time.time_ns() // 1000) + SECOND


class SqliteTarget:
    """See `Target`."""

    def __init__(self, path: Path, connection: Connection) -> None:
        self._path = path
        self._connection = connection
        self.store: Store = SqliteTables(path, connection)
        self._archive: SqliteArchive | None = None

    def page(self) -> AbstractContextManager[None]:
        """See `Target`."""
        return self.store.transaction()

    def go_on_above(self, sequence: int) -> None:
        """See `Target`."""
        self._connection.change(_SQL["go_on_above"], (sequence,))

    def written(self) -> Archive:
        """See `Target`."""
        if self._archive is None:
            self._archive = SqliteArchive(self._path)
        return self._archive

    def close(self) -> None:
        """Let go of the file: all is in it, and nothing beside it."""
        if self._archive is not None:
            self._archive.close()
        self.store.close()


@contextmanager
def source(path: Path) -> Iterator[Archive]:
    """The store in a file, which nobody can use meanwhile. Raises `StoreRefused`."""
    real = path.expanduser().resolve()
    snapshot.demand_file(real)
    if not schema.examine(real):
        raise StoreRefused(f"{real} is empty. There is nothing to move.")
    held = SqliteStore(real)
    try:
        with closing(SqliteArchive(real)) as archive:
            yield archive
    except (StoreFull, StoreUnavailable) as error:
        raise StoreRefused(schema.explain(real, error.__cause__ or error)) from error
    finally:
        held.close()


@contextmanager
def target(path: Path) -> Iterator[SqliteTarget]:
    """A new file, which has its name once the block has ended well. Raises `StoreRefused`."""
    real = path.expanduser().resolve()
    try:
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = files.owner_of(real)
        lock = LockFile(real.with_name(f"{real.name}.lock"), owner)
    except Locked as error:
        raise StoreRefused(f"{real} is in use by a scheduler (process {error}). Choose another file.") from error
    except OSError as error:
        raise StoreRefused(f"{real} cannot be made ({error.strerror}). Choose another place.") from error
    new = real.with_name(f"{real.name}{_NEW}")
    try:
        _demand_free(real)
        files.create_private(new, owner)
        with closing(SqliteTarget(new, schema.open_checked(new))) as made:
            yield made
        snapshot.sync(new)
        # An empty file may be there, and what a look at it has left.
        files.remove(real)
        new.replace(real)
        snapshot.sync(real.parent)
    except (StoreFull, StoreUnavailable) as error:
        if not isinstance(error.__cause__, sqlite3.Error):
            # It was the other side.
            raise
        raise StoreRefused(f"{new} cannot be written ({error.__cause__}). Is there room on its disk?") from error
    except OSError as error:
        raise StoreRefused(f"{new} cannot be written ({error.strerror}).") from error
    finally:
        files.remove(new)
        lock.release()


def _demand_free(path: Path) -> None:
    for file in files.all_of(path):
        if file.exists() and file.stat().st_size:
            raise StoreRefused(f"{file} is there already. Choose another path, or move it away.")
