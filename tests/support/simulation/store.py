"""The real SQLite store, quick instead of safe against power cuts, which tells the ledger what went through COMMIT."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from towpath_server.core.errors import StoreFull, StoreUnavailable
from towpath_server.core.job import Attempt, Job
from towpath_server.core.records import Lane, LogChunk, Queue
from towpath_server.store.base import Record, Store
from towpath_server.store.sqlite import SqliteStore, SqliteTables


class Killed(BaseException):
    """The process died before its COMMIT."""


class Disk:
    """What the store stands on: it may be full, or not answer; and the process may die at the next commit."""

    def __init__(self) -> None:
        self.error: type[StoreFull | StoreUnavailable] | None = None
        self.fails_at_commit = False
        self.kills_at_commit = False
        self.healthy_since = 0

    def fail(self, error: type[StoreFull | StoreUnavailable], *, at_commit: bool) -> None:
        """From now on nothing is written: refused at once, or when it is committed."""
        self.error, self.fails_at_commit = error, at_commit
        self.healthy_since = 1 << 62

    def heal(self, now: int) -> None:
        """All is well again."""
        self.error, self.healthy_since = None, now

    def check(self, *, at_commit: bool) -> None:
        """Raise what is wrong."""
        if at_commit and self.kills_at_commit:
            self.kills_at_commit = False
            raise Killed
        if self.error is not None and self.fails_at_commit == at_commit:
            raise self.error


Write = Callable[[], None]


class SimulatedStore(SqliteStore):
    """One life's connection to the file. `committed` gets all that one COMMIT has made durable, in order."""

    def __init__(self, path: Path, disk: Disk, recorder: Recorder) -> None:
        super().__init__(path)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._disk = disk
        self._recorder = recorder
        self._writes: list[Write] = []
        self._reader = SqliteTables.reader(self)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`."""
        self._disk.check(at_commit=False)
        self._writes = []
        with super().transaction():
            yield
            self._disk.check(at_commit=True)
        self._recorder.committed(self._writes)

    def reader(self) -> Store:
        """See `Store`."""
        return self._reader

    def insert(self, jobs: Sequence[Job]) -> None:
        """See `Store`."""
        super().insert(jobs)
        self._writes.append(lambda: self._recorder.insert(jobs))

    def save(self, jobs: Sequence[Job], past: Sequence[Attempt] = ()) -> None:
        """See `Store`."""
        super().save(jobs, past)
        self._writes.append(lambda: self._recorder.save(jobs, tuple(past)))

    def delete(self, job_ids: Sequence[int]) -> None:
        """See `Store`."""
        super().delete(job_ids)
        self._writes.append(lambda: self._recorder.delete(job_ids))

    def put(self, records: Sequence[Record], *, replace: bool = True) -> None:
        """See `Store`."""
        there = [] if replace else [(queue.tenant, queue.name) for queue in self.records(Queue)]
        super().put(records, replace=replace)
        new = [one for one in records if not (isinstance(one, Queue) and (one.tenant, one.name) in there)]
        self._writes.append(lambda: self._recorder.put(new))

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """See `Store`."""
        super().add_lanes(lanes)
        self._writes.append(lambda: self._recorder.add_lanes(lanes))

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """See `Store`."""
        super().append_logs(chunks)
        self._writes.append(lambda: self._recorder.append_logs(chunks))

    def close(self) -> None:
        """See `Store`."""
        self._reader.close()
        super().close()


class Recorder:
    """Who is told of writes that have become durable."""

    def committed(self, writes: Sequence[Write]) -> None:
        """One COMMIT with these writes."""
        raise NotImplementedError

    def insert(self, jobs: Sequence[Job]) -> None:
        """See `Store`."""
        raise NotImplementedError

    def save(self, jobs: Sequence[Job], past: tuple[Attempt, ...]) -> None:
        """See `Store`."""
        raise NotImplementedError

    def delete(self, job_ids: Sequence[int]) -> None:
        """See `Store`."""
        raise NotImplementedError

    def put(self, records: Sequence[Record]) -> None:
        """See `Store`."""
        raise NotImplementedError

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """See `Store`."""
        raise NotImplementedError

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """See `Store`."""
        raise NotImplementedError


@cache
def empty_file() -> bytes:
    """A fresh store's file: to copy it is quicker than to make one."""
    with fast_folder() as folder:
        path = folder / "empty.sqlite"
        SqliteStore(path).close()
        return path.read_bytes()


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A temporary folder in memory where there is such a thing."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="towpath-simulation-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
