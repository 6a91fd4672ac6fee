"""What the schedulers of a simulation stand on: a store, and how many of them share it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from support.simulation.hub import OpenHub, OpenStore, RecordedOpenStore
from support.simulation.life import START
from support.simulation.loop import VirtualLoop
from support.simulation.recorded import Disk, RecordedStore, Recorder
from support.simulation.store import empty_file, opened
from towpath_server.store.shared import Notice, SharedStore

Hear = Callable[[Notice], None]
HERE = "tests/faults/simulation/test_seeds.py"
SHARED = "tests/faults/simulation/test_replicas.py"


class Ground:
    """One store. A world stands on it from an empty beginning."""

    # Whether several schedulers may stand on it.
    is_shared = False
    most_schedulers = 1
    # Where its seeds are run.
    tests = HERE

    def clear(self, loop: VirtualLoop, rng: random.Random, disk: Disk) -> None:
        """Begin anew, with an empty store."""
        raise NotImplementedError

    def open(self, disk: Disk, recorder: Recorder) -> RecordedStore:
        """One life's connection."""
        raise NotImplementedError

    def listen(self, store: SharedStore, hear: Hear) -> None:
        """Let a life hear what others commit. Called inside of it."""

    def hang_up(self, store: SharedStore) -> None:
        """It hears no more."""


class SqliteGround(Ground):
    """A file, and one scheduler."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "towpath.sqlite"

    def clear(self, loop: VirtualLoop, rng: random.Random, disk: Disk) -> None:
        """See `Ground`."""
        for old in self._path.parent.glob("towpath.sqlite*"):
            old.unlink()
        self._path.write_bytes(empty_file())

    def open(self, disk: Disk, recorder: Recorder) -> RecordedStore:
        """See `Ground`."""
        return opened(self._path, disk, recorder)


class HubGround(Ground):
    """A store in memory that several schedulers share."""

    is_shared = True
    most_schedulers = 3
    tests = SHARED
    hub: OpenHub

    def clear(self, loop: VirtualLoop, rng: random.Random, disk: Disk) -> None:
        """See `Ground`."""
        self.hub = OpenHub(lambda: START + loop.microseconds, loop, rng, disk)

    def open(self, disk: Disk, recorder: Recorder) -> RecordedStore:
        """See `Ground`."""
        return RecordedOpenStore(self.hub, disk, recorder)

    def listen(self, store: SharedStore, hear: Hear) -> None:
        """See `Ground`."""
        self.hub.listen(inner(store), hear)

    def hang_up(self, store: SharedStore) -> None:
        """See `Ground`."""
        self.hub.hang_up(inner(store))


def inner(store: object) -> OpenStore:
    """The connection itself."""
    assert isinstance(store, RecordedOpenStore)
    return store.inner
