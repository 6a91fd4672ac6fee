"""Several stores over one memory: the obviously right model of a store that schedulers share.

A transaction keeps all others out, so every change is settled when it is committed; `hold_back` lets it look as if an
older transaction were still open. Notices can be lost.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from towpath_server.core.errors import StoreUnavailable
from towpath_server.core.job import Attempt, Job
from towpath_server.core.records import LogChunk, Replica
from towpath_server.store.base import Origin, Record, RecordKey, key_of
from towpath_server.store.memory import MemoryStore, _Tables
from towpath_server.store.shared import Brief, News, Notice

MILLISECOND = 1000


@dataclass
class Hub:
    """What the stores share, and what a test does to it."""

    now: Callable[[], int]
    tables: _Tables = field(default_factory=_Tables)
    sequence: int = 0
    loses_notices: bool = False
    # Changes after this one look as if something older were still under way.
    hold_back: int | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    heard: threading.Condition = field(default_factory=threading.Condition)
    listeners: list[HubListener] = field(default_factory=list)
    writers: dict[int, object] = field(default_factory=dict)
    changes: dict[tuple[type[Record], RecordKey], int] = field(default_factory=dict)

    def store(self) -> SharedMemoryStore:
        """One more store."""
        return SharedMemoryStore(self)

    @property
    def horizon(self) -> int:
        return self.sequence if self.hold_back is None else min(self.hold_back, self.sequence)

    def tell(self, logged: set[int], writer: object) -> None:
        """Somebody has committed."""
        if not self.loses_notices:
            with self.heard:
                for listener in self.listeners:
                    listener.notices.append(Notice(frozenset(logged), own=listener.writer is writer))
                self.heard.notify_all()


class HubListener:
    """See `Listener`."""

    def __init__(self, hub: Hub, writer: object) -> None:
        self._hub = hub
        self.writer = writer
        self.notices: deque[Notice] = deque()
        # The line is cut: once.
        self.is_cut = False
        self._misses = False
        with hub.heard:
            hub.listeners.append(self)

    def wait(self, timeout: float) -> Notice | None:
        """See `Listener`."""
        with self._hub.heard:
            if not (self.notices or self._misses or self.is_cut):
                self._hub.heard.wait(timeout)
            if self.is_cut:
                self.is_cut, self._misses = False, True
                self.notices.clear()
                raise StoreUnavailable
            missed, self._misses = self._misses, False
            if not (self.notices or missed):
                return None
            logged = frozenset(job_id for notice in self.notices for job_id in notice.logged)
            own = bool(self.notices) and all(notice.own for notice in self.notices)
            self.notices.clear()
            return Notice(logged, missed, own)

    def close(self) -> None:
        """See `Listener`."""
        with self._hub.heard:
            if self in self._hub.listeners:
                self._hub.listeners.remove(self)


class SharedMemoryStore(MemoryStore):
    """See `SharedStore`."""

    def __init__(self, hub: Hub, *, reads_for: SharedMemoryStore | None = None) -> None:
        self._hub = hub
        super().__init__()
        self._writer = reads_for or self
        self._source = reads_for
        self._touched: dict[int, object] = {}
        self._told: dict[tuple[type[Record], RecordKey], int] = {}
        self._logged: set[int] = set()
        # From now on every transaction is refused, as by a database that is down.
        self.is_down = False

    @property
    def _committed(self) -> _Tables:
        return self._hub.tables

    @_committed.setter
    def _committed(self, tables: _Tables) -> None:
        # The one that `MemoryStore` begins with is nobody's.
        if getattr(self, "_changed", None) is not None:
            self._hub.tables = tables

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`."""
        if self._writer.is_down:
            raise StoreUnavailable
        with self._hub.lock:
            self._touched, self._told, self._logged = {}, {}, set()
            with super().transaction():
                yield
            if self._source is None:
                self._hub.writers.update(self._touched)
                self._hub.changes.update(self._told)
        if self._touched or self._told or self._logged:
            self._hub.tell(self._logged, self._writer)

    def reader(self) -> SharedMemoryStore:
        """See `SharedStore`."""
        return SharedMemoryStore(self._hub, reads_for=self)

    def now(self) -> int:
        """See `SharedStore`."""
        return self._hub.now()

    def origin(self, now: int) -> Origin:
        """See `Store`."""
        newest = max(self._hub.tables.jobs, default=0)
        return Origin(self._hub.horizon, max(now, ((newest >> 21) + 1) * MILLISECOND))

    def sequence(self, now: int) -> int:
        """See `Store`."""
        self._hub.sequence = max(self._hub.sequence + 1, now)
        return self._hub.sequence

    def insert(self, jobs: Sequence[Job]) -> None:
        """See `Store`."""
        super().insert(jobs)
        self._touched.update(dict.fromkeys((job.job_id for job in jobs), self))

    def save(self, jobs: Sequence[Job], past: Sequence[Attempt] = ()) -> None:
        """See `Store`."""
        super().save(jobs, past)
        self._touched.update(dict.fromkeys((job.job_id for job in jobs), self))

    def put(self, records: Sequence[Record], *, replace: bool = True) -> None:
        """See `Store`."""
        known = self._writable.records
        new = [record for record in records if replace or (type(record), key_of(record)) not in known]
        super().put(records, replace=replace)
        self._tell_of(new)

    def remove(self, records: Sequence[Record]) -> None:
        """See `Store`."""
        super().remove(records)
        self._tell_of(records)

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """See `Store`."""
        super().append_logs(chunks)
        self._logged.update(chunk.job_id for chunk in chunks if chunk.text)

    def _tell_of(self, records: Sequence[Record]) -> None:
        for record in records:
            if not isinstance(record, Replica):
                self._told[type(record), key_of(record)] = self.sequence(0)

    def news(self, after: int, limit: int, *, mine: bool = True) -> News:
        """See `SharedStore`."""
        hub = self._hub
        newer = (job for job in self._tables.jobs.values() if job.sequence > after)
        wanted = (job for job in newer if mine or hub.writers.get(job.job_id) is not self._writer)
        changed = sorted(wanted, key=lambda job: job.sequence)
        more = len(changed) > limit
        told = changed[:limit]
        horizon = max(min(hub.horizon, told[-1].sequence) if more else hub.horizon, after)
        records = tuple(key for key, sequence in hub.changes.items() if sequence > after)
        return News(tuple(self._brief(job) for job in told), records, horizon, more)

    def _brief(self, job: Job) -> Brief:
        return Brief(
            job_id=job.job_id,
            lane_id=job.lane_id,
            priority=job.priority,
            position=job.position,
            state=job.state,
            revision=job.revision,
            sequence=job.sequence,
            due_time=job.due_time,
            session_id=job.lease.session_id if job.lease is not None else None,
            token=job.lease.token if job.lease is not None else None,
            mine=self._hub.writers.get(job.job_id) is self._writer,
        )

    def listener(self) -> HubListener:
        """See `SharedStore`."""
        return HubListener(self._hub, self._writer)
