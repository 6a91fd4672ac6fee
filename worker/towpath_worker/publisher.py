"""Which trained models get their name: those whose result the scheduler accepted, and only once it did.

A result that is sent and not acked may yet be refused: its lease may be over. So its model stays staged until the ack,
and the report stays in the spool until the model is published: a worker killed anywhere between does it at its next
start, when the report is sent, and acked, again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from towpath_worker import failpoints, staging
from towpath_worker.log import logger
from towpath_worker.outbox import Key, Outbox
from towpath_worker.paths import Folders

log = logger("towpath.worker")


class Publisher:
    """The models of one worker that wait for the scheduler's word. For one event loop."""

    def __init__(self, folders: Folders, outbox: Outbox) -> None:
        self._folders = folders
        staging.sweep(folders, outbox.held())
        self._waiting = staging.leases(folders)
        self._unlisted: set[Key] = set()
        self._settled = asyncio.Event()

    def wait_for_ack(self, key: Key, *, listed: bool) -> None:
        """The lease's training succeeded and its outcome is on its way. `listed`: the outcome names the model."""
        self._waiting.add(key)
        if not listed:
            self._unlisted.add(key)

    def discard(self, key: Key) -> None:
        """The lease is over without a result: what it staged is deleted."""
        staging.discard(self._folders, key)
        self._forget(key)

    def registering(self) -> None:
        """A registration lists the models: those that are not published now must be listed afterwards."""
        self._unlisted |= self._waiting

    async def settle(self, accepted: Mapping[Key, bool]) -> bool:
        """Publishes what was accepted and deletes what was not. Whether the scheduler must be told of new models.

        Raises OSError where a model cannot be given its name: it is still staged then.
        """
        new = False
        for key, publish in accepted.items():
            if key not in self._waiting:
                continue
            if publish:
                await asyncio.to_thread(self._publish, key)
                log.info("model published", job=key[0])
                new = new or key in self._unlisted
            else:
                await asyncio.to_thread(staging.discard, self._folders, key)
                log.info("model discarded: its result was not taken", job=key[0])
            self._forget(key)
        return new

    async def settled(self, patience: float) -> None:
        """Waits until the scheduler's word on all that waits for it now has been carried out; no longer than this."""
        now = set(self._waiting)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while now & self._waiting:
                    await self._settled.wait()

    def _publish(self, key: Key) -> None:
        staging.publish(self._folders, key, named=lambda: failpoints.reach("model.published"))

    def _forget(self, key: Key) -> None:
        self._waiting.discard(key)
        self._unlisted.discard(key)
        self._settled.set()
        self._settled = asyncio.Event()
