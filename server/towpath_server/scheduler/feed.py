"""What the other schedulers of a shared store have changed, taken in here: work for the board, orders for this one's
workers, news for those who watch, tokens, queues, workers and models.

A notice only says that it is time to look; what there is to know is read from the store, in its one order. So a notice
that is lost costs no more than the pause until the next look.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from threading import Thread
from time import sleep

from towpath_server.core.errors import StoreUnavailable, TowpathError
from towpath_server.core.job import Job, JobState
from towpath_server.core.records import Head
from towpath_server.log import Logger
from towpath_server.scheduler.hearsay import Hearsay
from towpath_server.scheduler.state import State
from towpath_server.store.base import Record, RecordKey
from towpath_server.store.shared import Brief, Listener, News, Notice, SharedStore

log = Logger(__name__)

# Jobs in one look, and those of them that are loaded whole: each may have some MiB.
MOST = 1000
MOST_WHOLE = 100
# How long to wait for a notice (seconds): a lost one costs so much.
LOOK = 1.0
# How long the thread that listens does nothing else, and how long it may take to end: its line may be dead.
LISTEN = 0.25
HANG_UP = 2.0
# After how long to look first whether what was not settled is (seconds), and twice as long each time that it is not.
SOON = 0.005
# All lanes are looked through this often (seconds): what a scheduler let go of when it died is in no news.
SWEEP = 5.0
# How long to leave a store alone that did not answer.
PAUSE = 0.5
# What one who has just heard elsewhere of something waits for it here at most.
CATCH_UP = 5.0


class Feed:
    """Follows a shared store. Everything but the listening happens in the event loop."""

    def __init__(self, state: State, store: SharedStore, hearsay: Hearsay) -> None:
        self._state = state
        self._store = store
        self._hearsay = hearsay
        self._after = state.watchers.sequence
        # What was taken in ahead of its time: the sequence by job.
        self._ahead: dict[int, int] = {}
        self._patience = SOON
        self._records: frozenset[tuple[type[Record], RecordKey]] = frozenset()
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._listening = False
        self._listener: Thread | None = None
        # The store does not answer: an outage is logged once.
        self._failing = False
        state.on_catch_up(self.catch_up)
        state.effects.on_doubt = self._wake.set

    def start(self) -> None:
        """Begin. The committer has started."""
        loop = asyncio.get_running_loop()
        self._listening = True
        self._begin_to_listen(loop)
        self._tasks = (
            loop.create_task(self._run(), name="feed"),
            loop.create_task(self._sweep(), name="feed sweep"),
        )

    async def stop(self) -> None:
        """End."""
        self._listening = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            await asyncio.to_thread(self._listener.join, HANG_UP)
        self._release(self._waiting)

    async def catch_up(self) -> None:
        """Return when all that was committed before this call is known here. Those who ask together share one look."""
        waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waits)
        self._wake.set()
        try:
            await asyncio.wait_for(waits, CATCH_UP)
        except TimeoutError:
            raise StoreUnavailable from None

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            waiting, self._waiting = self._waiting, []
            try:
                while await self._look():
                    pass
            except Exception as error:
                # Whatever it is: without this loop nothing that happens elsewhere is ever heard of.
                is_known = isinstance(error, TowpathError)
                if not (self._failing and is_known):
                    log.error("feed", error=repr(error), exc_info=not is_known)
                self._failing = True
                self._waiting += waiting
                await asyncio.sleep(PAUSE)
                self._wake.set()
                continue
            if self._failing:
                log.info("feed_goes_on")
            self._failing = False
            self._release(waiting)

    def _pause(self) -> float:
        if not self._ahead:
            return LOOK
        # What holds these back may end without a word, and those who watch all jobs wait for it.
        pause, self._patience = self._patience, min(2 * self._patience, LOOK)
        return pause

    async def _look(self) -> bool:
        """Take in what is new; whether there is more."""
        # What this scheduler changed itself is of interest only to those who wait for all changes in their order.
        watched = self._state.watchers.any
        news = await self._state.committer.follow(lambda store: _read(store, self._after, mine=watched))
        wanted = [brief for brief in news.jobs if self._is_wanted(brief, news.horizon)]
        if len(wanted) > MOST_WHOLE and (last := wanted[MOST_WHOLE - 1].sequence) <= news.horizon:
            first = tuple(brief for brief in news.jobs if brief.sequence <= last)
            news, wanted = News(first, news.records, last, more=True), wanted[:MOST_WHOLE]
        doubted = frozenset(self._state.effects.doubted)
        jobs = await self._load([*(brief.job_id for brief in wanted), *doubted])
        await self._hearsay.take_in(news.records)
        if self._state.watchers.any and not watched:
            # Somebody has come meanwhile to whom all of it may be news.
            return True
        self._take_in(news, jobs)
        self._look_again(doubted, jobs)
        self._ahead = {brief.job_id: brief.sequence for brief in news.jobs if brief.sequence > news.horizon}
        if not self._ahead or news.horizon > self._after:
            self._patience = SOON
        self._after = news.horizon
        # A small record that was changed here while it was read is as it was read now: another look mends that.
        records, self._records = self._records, frozenset(news.records)
        return news.more or not self._records <= records

    async def _load(self, job_ids: Sequence[int]) -> dict[int, Job]:
        return await self._state.committer.follow(lambda store: store.load(job_ids)) if job_ids else {}

    def _is_wanted(self, brief: Brief, horizon: int) -> bool:
        """Whether more is to be known of the job than the brief says."""
        if brief.sequence <= horizon and self._state.watchers.any_for(brief.state):
            return True
        if brief.mine or self._is_known(brief):
            return False
        if self._state.watchers.any_of(brief.job_id) or brief.lane_id not in self._state.board:
            return True
        session = self._state.sessions.holder(brief.job_id)
        return session is not None and session.held[brief.job_id].revision < brief.revision

    def _is_known(self, brief: Brief) -> bool:
        return self._ahead.get(brief.job_id) == brief.sequence

    def _take_in(self, news: News, jobs: dict[int, Job]) -> None:
        waiting: Counter[int] = Counter()
        for brief in news.jobs:
            if brief.mine or self._is_known(brief):
                continue
            job = jobs.get(brief.job_id)
            if job is not None:
                self._state.effects.hear(job)
                self._state.watchers.tell_of(job)
                if job.lane_id not in self._state.board:
                    self._state.board.learn(job)
            self._state.effects.note(brief.job_id, brief.revision)
            if brief.due_time is not None:
                self._state.nudge(brief.due_time, final=brief.state.is_final)
            if brief.state is JobState.QUEUED and brief.lane_id in self._state.board:
                self._state.board.push(brief.lane_id, Head(brief.priority, -brief.position))
                waiting[brief.lane_id] += 1
        self._state.effects.offer(waiting)
        # One that has changed again since comes again, in its new place.
        settled = [jobs[brief.job_id] for brief in news.jobs if brief.sequence <= news.horizon and brief.job_id in jobs]
        self._state.watchers.tell_all((job for job in settled if job.sequence <= news.horizon), news.horizon)

    def _look_again(self, doubted: Set[int], jobs: Mapping[int, Job]) -> None:
        for job_id in doubted:
            if job_id in jobs:
                self._state.effects.hear(jobs[job_id])
            else:
                self._state.effects.gone(job_id)
        self._state.effects.doubted -= doubted

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            try:
                lanes = await self._state.committer.scan(lambda store: store.lanes())
            except TowpathError:
                continue
            self._state.effects.offer(self._state.board.compare(lanes))

    def _begin_to_listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = Thread(target=self._listen, args=(loop,), name="towpath-listener", daemon=True)
        self._listener.start()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        listener: Listener | None = None
        while self._listening:
            try:
                if listener is None:
                    listener = self._store.listener()
                notice = listener.wait(LISTEN)
            except StoreUnavailable:
                sleep(PAUSE)
                continue
            if notice is not None and not _tell(loop, partial(self._hear, notice)):
                break
        if listener is not None:
            listener.close()

    def _hear(self, notice: Notice) -> None:
        if notice.missed:
            self._state.watchers.poke_jobs()
        for job_id in notice.logged:
            self._state.watchers.poke(job_id)
        if not notice.own or self._state.watchers.any:
            self._wake.set()

    def _release(self, waiting: Iterable[asyncio.Future[None]]) -> None:
        for waits in waiting:
            if not waits.done():
                waits.set_result(None)


def _read(store: SharedStore, after: int, *, mine: bool) -> News:
    with store.transaction():
        return store.news(after, MOST, mine=mine)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> bool:
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:
        # The loop is closed.
        return False
    return True
