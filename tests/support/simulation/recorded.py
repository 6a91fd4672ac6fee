"""A store that tells what went through COMMIT, on a disk that may be full, or not answer, or see its process die."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from towpath_server.core.errors import StoreFull, StoreUnavailable
from towpath_server.core.job import Attempt, Job
from towpath_server.core.quotas import Owner, Use
from towpath_server.core.records import AuditEvent, Head, Lane, LogChunk, Queue
from towpath_server.store.base import (
    Contended,
    Count,
    Matching,
    Origin,
    Query,
    Record,
    Recorded,
    RecordKey,
    RecordT,
    Store,
    key_of,
)
from towpath_server.store.shared import Listener, News, SharedStore


class Killed(BaseException):
    """The process died before its COMMIT."""


class Disk:
    """What the store stands on: it may be full, or not answer; and the process may die at the next commit."""

    def __init__(self) -> None:
        self.error: type[StoreFull | StoreUnavailable] | None = None
        self.fails_at_commit = False
        self.kills_at_commit = False
        self.healthy_since = 0
        # Whether somebody else is in the way of a commit.
        self.is_contended: Callable[[], bool] = lambda: False

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
        if at_commit and self.is_contended():
            raise Contended("somebody else was quicker")


Write = Callable[[], None]


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

    def remove(self, records: Sequence[Record]) -> None:
        """See `Store`."""
        raise NotImplementedError

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """See `Store`."""
        raise NotImplementedError

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """See `Store`."""
        raise NotImplementedError


class RecordedStore:
    """One life's connection to a store."""

    def __init__(self, store: Store, disk: Disk, recorder: Recorder) -> None:
        self.name = store.name
        self._store = store
        self._disk = disk
        self._recorder = recorder
        self._writes: list[Write] = []
        self._readers: list[Store] = []

    def begin(self) -> None:
        """A transaction begins whose statements come later."""

    def end(self) -> None:
        """It is over, one way or the other."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`."""
        self._disk.check(at_commit=False)
        self._writes = []
        with self._store.transaction():
            yield
            self._disk.check(at_commit=True)
        self._recorder.committed(self._writes)

    def reader(self) -> Store:
        """See `Store`."""
        self._readers.append(self._store.reader())
        return self._readers[-1]

    def origin(self, now: int) -> Origin:
        """See `Store`."""
        return self._store.origin(now)

    def sequence(self, now: int) -> int:
        """See `Store`."""
        return self._store.sequence(now)

    def insert(self, jobs: Sequence[Job]) -> None:
        """See `Store`."""
        self._store.insert(jobs)
        self._writes.append(lambda: self._recorder.insert(jobs))

    def load(self, job_ids: Sequence[int]) -> dict[int, Job]:
        """See `Store`."""
        return self._store.load(job_ids)

    def save(self, jobs: Sequence[Job], past: Sequence[Attempt] = ()) -> None:
        """See `Store`."""
        self._store.save(jobs, past)
        self._writes.append(lambda: self._recorder.save(jobs, tuple(past)))

    def delete(self, job_ids: Sequence[int]) -> None:
        """See `Store`."""
        self._store.delete(job_ids)
        self._writes.append(lambda: self._recorder.delete(job_ids))

    def find(self, query: Query, limit: int) -> list[Job]:
        """See `Store`."""
        return self._store.find(query, limit)

    def count(self, matching: Matching) -> list[Count]:
        """See `Store`."""
        return self._store.count(matching)

    def next_due(self, *, final: bool = False) -> int | None:
        """See `Store`."""
        return self._store.next_due(final=final)

    def attempts(self, job_id: int) -> list[Attempt]:
        """See `Store`."""
        return self._store.attempts(job_id)

    def lanes(self) -> dict[Lane, Head | None]:
        """See `Store`."""
        return self._store.lanes()

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """See `Store`."""
        self._store.add_lanes(lanes)
        self._writes.append(lambda: self._recorder.add_lanes(lanes))

    def put(self, records: Sequence[Record], *, replace: bool = True) -> None:
        """See `Store`."""
        # What somebody else has put there is left as it is.
        there = set() if replace else {key_of(queue) for queue in self.records(Queue)}
        self._store.put(records, replace=replace)
        new = [one for one in records if not (isinstance(one, Queue) and key_of(one) in there)]
        self._writes.append(lambda: self._recorder.put(new))

    def remove(self, records: Sequence[Record]) -> None:
        """See `Store`."""
        self._store.remove(records)
        self._writes.append(lambda: self._recorder.remove(records))

    def records(self, kind: type[RecordT], keys: Sequence[RecordKey] | None = None) -> list[RecordT]:
        """See `Store`."""
        return self._store.records(kind, keys)

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """See `Store`."""
        self._store.append_logs(chunks)
        self._writes.append(lambda: self._recorder.append_logs(chunks))

    def logs(self, job_id: int, attempt: int, offset: int, limit: int) -> list[LogChunk]:
        """See `Store`."""
        return self._store.logs(job_id, attempt, offset, limit)

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        """See `Store`."""
        self._store.append_audit(events)

    def audit(self, query: Recorded, limit: int) -> list[AuditEvent]:
        """See `Store`."""
        return self._store.audit(query, limit)

    def usage(self, *, sizes: bool = False) -> dict[Owner, Use]:
        """See `Store`."""
        return self._store.usage(sizes=sizes)

    def close(self) -> None:
        """See `Store`."""
        for reader in self._readers:
            reader.close()
        self._store.close()


class SharedRecordedStore(RecordedStore):
    """The same of a store that several schedulers share."""

    def __init__(self, store: SharedStore, disk: Disk, recorder: Recorder) -> None:
        super().__init__(store, disk, recorder)
        self._shared = store

    def now(self) -> int:
        """See `SharedStore`."""
        return self._shared.now()

    def reader(self) -> SharedStore:
        """See `SharedStore`."""
        reader = self._shared.reader()
        self._readers.append(reader)
        return reader

    def news(self, after: int, limit: int, *, mine: bool = True) -> News:
        """See `SharedStore`."""
        return self._shared.news(after, limit, mine=mine)

    def listener(self) -> Listener:
        """See `SharedStore`."""
        return self._shared.listener()
