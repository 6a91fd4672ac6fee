"""Which trained models get their name: those whose result the scheduler accepted, and only once it did.

A result that is sent and not acked may yet be refused: its lease may be over. So its model stays staged until the ack,
and the report stays in the spool until the model is published: a worker killed anywhere between does it at its next
start, when the report is sent, and acked, again.

A model that cannot be published, as something is in its way or the disk fails, is tried again and again, and at the
next start; it holds up no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from towpath_worker import failpoints, staging
from towpath_worker.backoff import Backoff
from towpath_worker.log import logger
from towpath_worker.outbox import Outbox
from towpath_worker.paths import Folders
from towpath_worker.reports import Key

log = logger("towpath.worker")

# What reads models waits so long, in seconds, until a training that may be over for its submitter is over here too.
MODEL_PATIENCE = 5.0


class Publisher:
    """The models of one worker that wait for the scheduler's word. For one event loop."""

    def __init__(self, folders: Folders, outbox: Outbox) -> None:
        #: Set when a model was published that the scheduler must be told of.
        self.news = asyncio.Event()
        self._folders = folders
        self._outbox = outbox
        staging.sweep(folders, outbox.held())
        self._guessed: set[Key] = set()
        try:
            self._waiting = staging.leases(folders)
        except OSError as error:
            log.error("the models that wait for their name cannot be read: trying again", reason=str(error))
            self._guessed = outbox.held()
            self._waiting = set(self._guessed)
        self._unlisted: set[Key] = set()
        self._listing = False
        self._late: set[Key] = set()
        self._is_late = asyncio.Event()
        self._settling = asyncio.Lock()
        self._settled = asyncio.Event()

    def wait_for_ack(self, key: Key, *, listed: bool) -> None:
        """The lease's training succeeded and its outcome is on its way. `listed`: the outcome names the model."""
        self._waiting.add(key)
        if self._listing or not listed:
            self._unlisted.add(key)

    def discard(self, key: Key) -> None:
        """The lease is over without a result: what it staged is deleted."""
        staging.discard(self._folders, key)
        self._forget(key)

    def registering(self) -> None:
        """A registration lists the models: those that are not published now must be listed afterwards."""
        self._unlisted |= self._waiting

    @contextmanager
    def listing(self) -> Iterator[None]:
        """While the scheduler is told these models and no others: those accepted meanwhile must be listed again."""
        self.registering()
        self._listing = True
        try:
            yield
        finally:
            self._listing = False

    async def settle(self, accepted: Mapping[Key, bool]) -> None:
        """Publishes what was accepted and deletes what was not.

        A model that cannot be given its name stays staged, and its outcome in the outbox: `keep_trying` does the rest.
        """
        for key in accepted.keys() & self._waiting:
            await self._settle(key, publish=accepted[key])

    async def keep_told(self, tell: Callable[[], Awaitable[bool]]) -> None:
        """Lets the scheduler be told of the models whenever there is news; until cancelled."""
        # One after the other: an older list must not come after a newer one.
        backoff = Backoff(longest=30.0)
        while True:
            await self.news.wait()
            self.news.clear()
            # What the scheduler has accepted and is not published yet must not be missing from the list.
            await self.settled(MODEL_PATIENCE)
            with self.listing():
                told = await tell()
            if told:
                backoff.reset()
            else:
                self.news.set()
                await backoff.wait()

    async def keep_trying(self) -> None:
        """Publishes what could not be published, as soon as it can be; until cancelled."""
        backoff = Backoff()
        while True:
            if not self._late:
                backoff.reset()
                self._is_late.clear()
                await self._is_late.wait()
            await backoff.wait()
            for key in sorted(self._late):
                await self._settle(key, publish=True)

    async def settled(self, patience: float) -> None:
        """Waits until the scheduler's word on all that waits for it now was carried out or tried; so long at most."""
        now = set(self._waiting)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while (now & self._waiting) - self._late:
                    await self._settled.wait()

    async def _settle(self, key: Key, *, publish: bool) -> None:
        async with self._settling:
            if key not in self._waiting:
                return
            if not publish:
                await asyncio.to_thread(staging.discard, self._folders, key)
                log.info("model discarded: its result was not taken", job=key[0])
            else:
                try:
                    there = await asyncio.to_thread(self._publish, key)
                except OSError as error:
                    self._put_off(key, error)
                    return
                if there:
                    log.info("model published", job=key[0])
                    if key in self._unlisted:
                        self.news.set()
                elif key not in self._guessed:
                    log.error("a model is gone that was written and has no name yet: train it again", job=key[0])
            self._forget(key)

    def _publish(self, key: Key) -> bool:
        return staging.publish(self._folders, key, named=lambda: failpoints.reach("model.published"))

    def _put_off(self, key: Key, error: OSError) -> None:
        if key not in self._late | self._guessed:
            log.error("a model could not be published: trying again", job=key[0], reason=str(error))
        self._outbox.keep(key)
        self._late.add(key)
        self._is_late.set()
        self._wake()

    def _forget(self, key: Key) -> None:
        for keys in (self._waiting, self._unlisted, self._late, self._guessed):
            keys.discard(key)
        self._outbox.let_go(key)
        self._wake()

    def _wake(self) -> None:
        self._settled.set()
        self._settled = asyncio.Event()
