"""The real committer without its threads: groups gather, commit and are answered at virtual moments of chance."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from support.simulation.book import Book, Known, Memory
from support.simulation.recorded import Killed, RecordedStore
from towpath_server.core.errors import TowpathError
from towpath_server.scheduler.transactions.claim import ClaimItem
from towpath_server.scheduler.transactions.create import CreateItem
from towpath_server.store.base import Store
from towpath_server.store.committer import Committer, ItemT, OnCommit, OutT, Verb, _seen, _tell
from towpath_server.store.shared import SharedStore


class Pace:
    """How long things take, and where a process dies. All of it is drawn from the seed."""

    def commit_delay(self) -> float:
        """Seconds until what was submitted is committed."""
        raise NotImplementedError

    def commits(self, verbs: list[str]) -> None:
        """These verbs are in one commit."""
        raise NotImplementedError

    def dies(self, point: str) -> bool:
        """Whether the process dies here."""
        raise NotImplementedError

    def unexpected(self, error: Exception) -> None:
        """A verb raised what it never should."""
        raise NotImplementedError

    def died(self) -> None:
        """The process is dead."""
        raise NotImplementedError


class SimulatedCommitter(Committer):
    """Commits in the loop's own thread. `alive` is False once the process was killed: then nothing happens any more."""

    def __init__(
        self, store: Store, clock: Callable[[], int], on_commit: OnCommit, *, book: Book, memory: Memory, pace: Pace
    ) -> None:
        super().__init__(store, clock, on_commit, max_group=64)
        self._book = book
        self._pace = pace
        self._memory = memory
        assert isinstance(store, RecordedStore)
        self._recorded = store
        self._lines: list[_Line] = []
        self._known: dict[int, Known] = {}
        self._claims: dict[int, ClaimItem] = {}
        self.alive = True

    def start(self) -> None:
        """See `Committer`."""
        self._loop = asyncio.get_running_loop()
        self._view = self._store.reader()
        self._started = True
        self.writing = _Line(self, self._max_group, self._commit_group, self._answer_group, self._recorded.begin)
        self.reading = _Line(self, 1, self._look, _tell)
        self._writes = self.writing  # type: ignore[assignment]
        self._reads = self.reading  # type: ignore[assignment]
        self._lines += [self.writing, self.reading]
        if isinstance(self._store, SharedStore):
            following = _Line(self, 1, partial(self._look_around, self._store.reader()), _tell)
            self._follows = following  # type: ignore[assignment]
            self._lines.append(following)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for a commit or for an answer."""
        return all(line.is_idle for line in self._lines)

    async def submit(self, verb: Verb[ItemT, OutT], item: ItemT) -> OutT:
        """See `Committer`."""
        self._known[id(item)] = self._memory.known
        if isinstance(item, ClaimItem):
            self._claims[id(item)] = item
        try:
            return await super().submit(verb, item)
        finally:
            self._known.pop(id(item), None)
            self._claims.pop(id(item), None)

    async def _wind_up(self) -> None:
        for line in self._lines:
            await line.ended

    def _commit_group(self, group: list[Any]) -> list[Any]:
        self._book.memory = memory = self._memory
        claims = memory.claims = {}
        for write in group:
            known = self._known.get(id(write.item), memory.known)
            for session_id in _sessions(write.item):
                also = claims.get(session_id, known)
                claims[session_id] = Known(min(known.own, also.own), min(known.others, also.others))
        memory.claimed = {lane_id for item in self._claims.values() for _, _, lane_id in item.lanes}
        self._pace.commits([write.verb.name for write in group])
        try:
            outcomes = self._commit(group)
        finally:
            self._recorded.end()
        for outcome in outcomes:
            if outcome.error is not None and not isinstance(outcome.error, TowpathError):
                self._pace.unexpected(outcome.error)
        number = self._book.ledger.number
        return [number, *outcomes]

    def _look_around(self, view: Store, group: list[Any]) -> list[Any]:
        if self._memory.looks_at is None:
            self._memory.looks_at = self._book.ledger.number
        return [_seen(view, read) for read in group]

    def _answer_group(self, answered: list[Any]) -> None:
        number, *outcomes = answered
        self._answer(outcomes)
        # After those who wait have taken it in: they run in the loop's next turn.
        self._loop.call_soon(self._absorbed, number)

    def _absorbed(self, number: int) -> None:
        if self.alive:
            self._memory.absorbed = max(self._memory.absorbed, number)

    # What a line asks of its committer.

    def delay(self) -> float:
        """Seconds until the next thing is done."""
        return self._pace.commit_delay()

    def survives(self, point: str) -> bool:
        """Whether the process still lives after this point."""
        if self.alive and self._pace.dies(point):
            self.alive = False
            self._pace.died()
        return self.alive

    def killed(self) -> None:
        """It died inside a commit."""
        self.alive = False
        self._pace.died()


class _Line:
    """Stands where a queue and its thread would: takes tasks, works on them in groups, and answers in order."""

    def __init__(
        self,
        committer: SimulatedCommitter,
        most: int,
        work: Callable[[list[Any]], list[Any]],
        answer: Callable[[list[Any]], None],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._begin = begin
        self._committer = committer
        self._most = most
        self._work = work
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._tasks: deque[Any] = deque()
        self._answers: deque[list[Any]] = deque()
        self._busy = False
        self._ends = False
        self.ended: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._tasks and not self._answers

    def put(self, task: Any) -> None:
        """Take a task; None is the last one."""
        if task is None:
            self._ends = True
        else:
            self._tasks.append(task)
        self._go_on()

    def _go_on(self) -> None:
        if self._tasks and not self._busy:
            self._busy = True
            self._begin()
            self._loop.call_later(self._committer.delay(), self._do)
        elif self._ends and self.is_idle and not self.ended.done():
            self.ended.set_result(None)

    def _do(self) -> None:
        if not self._committer.survives("before the commit"):
            return
        group = [self._tasks.popleft() for _ in range(min(self._most, len(self._tasks)))]
        try:
            self._answers.append(self._work(group))
        except Killed:
            self._committer.killed()
            return
        self._busy = False
        if self._committer.survives("after the commit"):
            self._loop.call_later(self._committer.delay(), self._tell)
            self._go_on()

    def _tell(self) -> None:
        if self._committer.alive:
            self._answer(self._answers.popleft())
            self._committer.survives("after the answer")
            self._go_on()


def _sessions(item: object) -> list[str]:
    if isinstance(item, ClaimItem):
        return [item.session_id]
    if isinstance(item, CreateItem):
        return [draft.lease.session_id for draft in item.drafts if draft.lease is not None]
    return []
