"""The shared memory with transactions that stay open for a while, as a database's do: a change that is numbered early
may be seen late. Notices take their time, and may be lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, replace

from support.shared_memory import Hub, SharedMemoryStore
from support.simulation.loop import VirtualLoop
from support.simulation.recorded import Disk, Recorder, SharedRecordedStore
from towpath_server.core.errors import StoreUnavailable
from towpath_server.core.job import Job
from towpath_server.store.base import Matching, Query
from towpath_server.store.shared import News, Notice

# Changes that one transaction may make.
ROOM = 20
FIRST = 1 << 40


@dataclass(eq=False)
class Line:
    """On which one store's life hears the others."""

    hear: Callable[[Notice], None]
    context: Context
    is_cut: bool = False


class OpenHub(Hub):
    """Numbers changes by the transaction that makes them, in the order in which transactions begin."""

    def __init__(self, now: Callable[[], int], loop: VirtualLoop, rng: random.Random, disk: Disk) -> None:
        super().__init__(now)
        self._loop = loop
        self._rng = rng
        self.disk = disk
        self._next = FIRST
        # Transactions that are open, by who writes.
        self._open: dict[object, int] = {}
        # How likely a notice is lost, and how likely a transaction is numbered long before it is committed.
        self.deafness = self.overlap = 0.0
        self._lines: dict[object, Line] = {}
        # Since when nothing holds the horizon back.
        self.free_since = 0
        self.settled: Callable[[int], None] = lambda horizon: None
        # What has happened, and how often.
        self.seen: Counter[str] = Counter()

    @property
    def horizon(self) -> int:
        """Everything up to here is settled."""
        first = (min([self._next, *self._open.values()]) << ROOM) - 1
        return first if self.hold_back is None else min(self.hold_back, first)

    def begin(self, writer: object) -> int:
        """The writer's transaction: the one that is open, or a new one."""
        if writer not in self._open:
            self._open[writer] = self._next
            self._next += 1
        return self._open[writer]

    def end(self, writer: object) -> None:
        """It is over, one way or the other."""
        self._open.pop(writer, None)

    def give_up(self, writer: OpenStore) -> None:
        """The database ends a transaction in which nothing happens, if there is one."""
        if self._open.pop(writer, None) is not None:
            writer.is_cut = True

    def overlaps(self) -> bool:
        """Whether the next transaction is numbered early."""
        return self._rng.random() < self.overlap

    def hold(self, seconds: float) -> None:
        """Something that nobody here knows of holds the horizon back for a while."""
        self.seen["held back"] += 1
        self.hold_back, self.free_since = self.horizon, 1 << 62
        self._loop.call_later(seconds, self.let_go)

    def let_go(self) -> None:
        """Nothing does any more."""
        self.hold_back, self.free_since = None, self._loop.microseconds

    def listen(self, writer: object, hear: Callable[[Notice], None]) -> None:
        """From now on this life hears of commits."""
        self._lines[writer] = Line(hear, copy_context())

    def hang_up(self, writer: object) -> None:
        """It does not any more."""
        self._lines.pop(writer, None)

    def cut(self, writer: object, seconds: float) -> None:
        """Its line is cut for a while."""
        if (line := self._lines.get(writer)) is not None and not line.is_cut:
            line.is_cut = True
            self._loop.call_later(seconds, self._mend, line)

    def _mend(self, line: Line) -> None:
        line.is_cut = False
        self._loop.call_soon(line.hear, Notice(missed=True), context=line.context)

    def tell(self, logged: set[int], writer: object) -> None:
        """See `Hub`."""
        for listens, line in self._lines.items():
            if line.is_cut or self._rng.random() < self.deafness:
                self.seen["notice lost"] += 1
            else:
                notice = Notice(frozenset(logged), own=listens is writer)
                self._loop.call_later(self._rng.uniform(0.0005, 0.01), line.hear, notice, context=line.context)


class OpenStore(SharedMemoryStore):
    """One life's connection."""

    _hub: OpenHub

    def __init__(self, hub: OpenHub, *, reads_for: SharedMemoryStore | None = None) -> None:
        super().__init__(hub, reads_for=reads_for)
        # The database has ended a transaction that nothing happened in for too long.
        self.is_cut = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`."""
        if self._source is not None:
            if self._hub.disk.error is StoreUnavailable:
                raise StoreUnavailable
            with super().transaction():
                yield
            return
        if self.is_cut:
            self.is_cut = False
            raise StoreUnavailable
        try:
            with super().transaction():
                yield
        finally:
            self._hub.end(self)

    def sequence(self, now: int) -> int:
        """See `Store`."""
        if self._changed is None:
            return self._hub.horizon
        self._hub.sequence += 1
        return (self._hub.begin(self) << ROOM) + self._hub.sequence % (1 << ROOM)

    def find(self, query: Query, limit: int) -> list[Job]:
        """See `Store`: who reads changes in their order sees none that is not settled."""
        if not isinstance(query, Matching) or query.changed_after is None:
            return super().find(query, limit)
        found = super().find(query, 1 << 30)
        return [job for job in found if self._source is None or job.sequence <= self._hub.horizon][:limit]

    def news(self, after: int, limit: int, *, mine: bool = True) -> News:
        """See `SharedStore`."""
        news = super().news(after, limit)
        self._hub.settled(news.horizon)
        return news if mine else replace(news, jobs=[brief for brief in news.jobs if not brief.mine])

    def reader(self) -> OpenStore:
        """See `SharedStore`."""
        return OpenStore(self._hub, reads_for=self)

    def close(self) -> None:
        """See `Store`."""
        if self._source is None:
            self._hub.end(self)
            self._hub.hang_up(self)
        super().close()


class RecordedOpenStore(SharedRecordedStore):
    """The same, recorded."""

    def __init__(self, hub: OpenHub, disk: Disk, recorder: Recorder) -> None:
        self.inner = OpenStore(hub)
        self.hub = hub
        super().__init__(self.inner, disk, recorder)

    def begin(self) -> None:
        """Number a transaction whose statements come later, perhaps."""
        if self.hub.overlaps():
            self.hub.begin(self.inner)

    def end(self) -> None:
        """See `RecordedStore`."""
        self.hub.end(self.inner)
