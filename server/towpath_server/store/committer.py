"""Group commit: what arrives while one commit is under way goes into the next, together.

One thread writes, one reads, one reads what may take long, and one what others do who share the store. Nothing is
answered before the commit that holds it is on disk. There is no timer: what comes alone is committed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from time import sleep
from typing import Any, TypeVar, cast

from towpath_server.core.errors import Draining, StoreFull, StoreUnavailable, TowpathError
from towpath_server.failpoints import reach
from towpath_server.store.base import Contended, Store
from towpath_server.store.grouping import HEAVY, Read, TaskT, Write, by_verb, parts, take
from towpath_server.store.shared import SharedStore
from towpath_server.store.verb import ItemT, OutT, Verb

__all__ = ["HEAVY", "MAX_GROUP", "Committer", "ItemT", "OnCommit", "OutT", "Verb"]

T = TypeVar("T")

OnCommit = Callable[[Sequence[object]], None]

MAX_GROUP = 1024
# How long (seconds) to stand back each time that others were in the way.
PAUSES = (0.0, 0.005, 0.02, 0.1, 0.3)


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    answer: asyncio.Future[Any]
    result: object = None
    error: Exception | None = None

    def tell(self) -> None:
        """Give it to whoever waits."""
        if self.answer.done():
            return  # Its caller has gone.
        if self.error is None:
            self.answer.set_result(self.result)
        elif isinstance(self.error, StopIteration):
            self.answer.set_exception(RuntimeError("a verb raised StopIteration"))  # Futures refuse it.
        else:
            self.answer.set_exception(self.error)


class Committer:
    """Brings verbs from the event loop to the store, and their outcomes back."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], int],
        on_commit: OnCommit = lambda outcomes: None,
        *,
        max_group: int = MAX_GROUP,
    ) -> None:
        """`clock` gives microseconds; what the verbs are told never goes backwards.

        `on_commit` gets the outcomes of each commit in the event loop, before anybody else: commit after commit, each
        whole, and without the errors.
        """
        self._store = store
        self._clock = clock
        self._on_commit = on_commit
        self._max_group = max_group
        self._now = 0
        # None ends the thread that takes it.
        self._writes: SimpleQueue[Write | None] = SimpleQueue()
        self._reads: SimpleQueue[Read | None] = SimpleQueue()
        # None: those who read in another way than with threads have one line for all.
        self._scans: SimpleQueue[Read | None] | None = None
        self._follows: SimpleQueue[Read | None] | None = None
        self._threads: tuple[Thread, ...] = ()
        self._views: tuple[Store, ...] = ()
        self._started = False
        self._end: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the threads. Called once, inside the running event loop."""
        self._loop = asyncio.get_running_loop()
        # One after the other: where one of them cannot be had, stop() closes the others.
        for _ in range(3 if isinstance(self._store, SharedStore) else 2):
            self._views = (*self._views, self._store.reader())
        self._view, wide_view, *shared_view = self._views
        self._scans = SimpleQueue()
        self._started = True
        self._threads = (
            Thread(
                target=self._serve,
                args=(self._writes, self._max_group, self._commit, self._answer),
                name="towpath-writer",
            ),
            Thread(target=self._serve, args=(self._reads, 1, self._look, _tell), name="towpath-reader"),
            Thread(
                target=self._serve, args=(self._scans, 1, partial(_looked, wide_view), _tell), name="towpath-scanner"
            ),
        )
        for view in shared_view:
            self._follows = SimpleQueue()
            look = (self._follows, 1, partial(_looked, view), _tell)
            self._threads = (*self._threads, Thread(target=self._serve, args=look, name="towpath-follower"))
        for thread in self._threads:
            # A loop that ends without stop() must not keep the process alive.
            thread.daemon = True
            thread.start()

    async def submit(self, verb: Verb[ItemT, OutT], item: ItemT) -> OutT:
        """The item's outcome, once it is on disk. It is carried out even where the caller is cancelled meanwhile.

        Raises the `TowpathError` that is the item's outcome, `StoreFull` or `StoreUnavailable` where nothing was
        changed, and `Draining` after `stop`.
        """
        answer: asyncio.Future[OutT] = self._new_answer()
        self._writes.put(Write(verb, item, answer, verb.weigh(item)))
        return await answer

    async def read(self, run: Callable[[Store], T]) -> T:
        """What `run` makes of the committed state, in the reader's thread. Raises `Draining` after `stop`.

        For what is found by its key: others wait meanwhile.
        """
        answer: asyncio.Future[T] = self._new_answer()
        self._reads.put(Read(run, answer))
        return await answer

    async def scan(self, run: Callable[[Store], T]) -> T:
        """The same for what may look at every job there is: only other scans wait for it."""
        answer: asyncio.Future[T] = self._new_answer()
        (self._reads if self._scans is None else self._scans).put(Read(run, answer))
        return await answer

    async def follow(self, run: Callable[[SharedStore], T]) -> T:
        """The same for what others changed, where the store is shared."""
        answer: asyncio.Future[T] = self._new_answer()
        if self._follows is None:
            raise RuntimeError("nobody else writes to this store")
        self._follows.put(Read(cast("Callable[[Store], T]", run), answer))
        return await answer

    async def stop(self) -> None:
        """Finishes all that was submitted, then ends the threads. The store stays open."""
        if self._end is None:
            self._writes.put(None)
            self._reads.put(None)
            for more in (self._scans, self._follows):
                if more is not None:
                    more.put(None)
            self._end = self._loop.create_task(self._wind_up())
        await asyncio.shield(self._end)

    async def _wind_up(self) -> None:
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        for view in self._views:
            view.close()

    def _new_answer(self) -> asyncio.Future[Any]:
        if not self._started:
            raise RuntimeError("start the committer first")
        if self._end is not None:
            raise Draining
        return self._loop.create_future()

    def _serve(
        self,
        tasks: SimpleQueue[TaskT | None],
        most: int,
        work: Callable[[list[TaskT]], list[_Outcome]],
        answer: Callable[[list[_Outcome]], None],
    ) -> None:
        more = True
        while more:
            group, more = take(tasks, most)
            for part in parts(group):
                outcomes = work(part)
                with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                    self._loop.call_soon_threadsafe(answer, outcomes)

    def _commit(self, group: list[Write]) -> list[_Outcome]:
        for pause in PAUSES:
            try:
                return self._attempt(group)
            except Contended:
                if len(group) > 1:
                    # Perhaps it was too much for the time that others leave, and not all of them are in the way of all.
                    in_order = [write for writes in by_verb(group) for write in writes]
                    middle = len(in_order) // 2
                    return self._commit(in_order[:middle]) + self._commit(in_order[middle:])
                sleep(pause)
        return [_Outcome(group[0].answer, error=StoreUnavailable())]

    def _attempt(self, group: list[Write]) -> list[_Outcome]:
        self._now = max(self._now, self._clock())
        try:
            return self._commit_together(group, self._now)
        except Contended:
            raise
        except (StoreFull, StoreUnavailable) as error:
            return [_Outcome(write.answer, error=type(error)(**error.facts)) for write in group]
        except Exception as error:  # noqa: BLE001 - it goes to whoever waits for it
            if len(group) == 1:
                return [_Outcome(group[0].answer, error=error)]
            in_order = [write for writes in by_verb(group) for write in writes]
            return [outcome for write in in_order for outcome in self._commit([write])]

    def _commit_together(self, group: list[Write], now: int) -> list[_Outcome]:
        outcomes = []
        with self._store.transaction():
            for writes in by_verb(group):
                verb = writes[0].verb
                results = verb.run(self._store, now, [write.item for write in writes])
                if len(results) != len(writes):
                    raise RuntimeError(f"{verb.name} gave {len(results)} outcomes for {len(writes)} items")
                outcomes += [_outcome(write, result) for write, result in zip(writes, results, strict=True)]
            reach("commit.before")
        reach("commit.after")
        return outcomes

    def _answer(self, outcomes: list[_Outcome]) -> None:
        reach("answer.before")
        try:
            self._on_commit([outcome.result for outcome in outcomes if outcome.error is None])
        finally:
            _tell(outcomes)
        reach("answer.after")

    def _look(self, group: list[Read]) -> list[_Outcome]:
        return _looked(self._view, group)


def _looked(view: Store, group: list[Read]) -> list[_Outcome]:
    return [_seen(view, read) for read in group]


def _seen(view: Store, read: Read) -> _Outcome:
    try:
        return _Outcome(read.answer, read.run(view))
    except Exception as error:  # noqa: BLE001 - it goes to whoever waits for it
        return _Outcome(read.answer, error=error)


def _outcome(write: Write, result: object) -> _Outcome:
    if isinstance(result, TowpathError):
        return _Outcome(write.answer, error=result)
    return _Outcome(write.answer, result)


def _tell(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        outcome.tell()
