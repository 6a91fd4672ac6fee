"""The ground of PostgreSQL: a real server, on which one or two schedulers stand, all in one thread.

A scheduler that is killed inside a transaction is a connection that is cut.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from support import postgres_store
from support.simulation.grounds import SHARED, Ground, Hear
from support.simulation.loop import VirtualLoop
from support.simulation.recorded import Disk, Killed, RecordedStore, Recorder, SharedRecordedStore
from towpath_server.core.errors import StoreUnavailable
from towpath_server.store.postgres import PostgresStore
from towpath_server.store.shared import Listener, SharedStore

# How often a life asks whether it was told something (virtual seconds).
ASKS = 0.05


class PostgresGround(Ground):
    """One database, emptied for each world."""

    is_shared = True
    most_schedulers = 2
    tests = f"{SHARED} TOWPATH_SIM_STORE=postgres"

    def clear(self, loop: VirtualLoop, rng: random.Random, disk: Disk) -> None:
        """See `Ground`."""
        self._place = postgres_store.place()

    def open(self, disk: Disk, recorder: Recorder) -> RecordedStore:
        """See `Ground`."""
        return CutStore(PostgresStore(self._place), disk, recorder)

    def listen(self, store: SharedStore, hear: Hear) -> None:
        """See `Ground`."""
        listener = store.listener()
        task = asyncio.get_running_loop().create_task(_ask(listener, hear))
        task.add_done_callback(lambda _: listener.close())


class CutStore(SharedRecordedStore):
    """A life's connection: where its process is killed inside a transaction, the server sees it go without a word."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`."""
        try:
            with super().transaction():
                yield
        except Killed:
            self.close()
            raise


async def _ask(listener: Listener, hear: Hear) -> None:
    while True:
        with suppress(StoreUnavailable):
            if (notice := listener.wait(0.0)) is not None:
                hear(notice)
        await asyncio.sleep(ASKS)
