"""Where a kill loop takes place: one scheduler on a file, or several on a PostgreSQL of their own."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from support import processes, stored
from support.history import Stored
from support.killing import Victim
from towpath_server.failpoints import POINTS

if TYPE_CHECKING:
    from support.postgres import Postgres

# How long a database that was killed stays away at most (seconds), and how long one in so many: beyond all leases.
AWAY, LONG_AWAY, SELDOM = 1.5, 6.0, 8
# What a scheduler says when it ends because it finds no database.
WITHOUT_STORE = "towpath-server: The store postgresql://"


class Place(Protocol):
    """What a kill loop needs to know of it."""

    address: str
    token: str
    environment: dict[str, str]
    schedulers: list[Victim]
    databases: list[Database]

    def stored(self) -> list[Stored]:
        """The jobs in the store, which no scheduler has open."""

    def keep(self, folder: Path) -> None:
        """Put there what `folder` of the loop itself does not hold of the evidence."""

    def close(self) -> None:
        """Leave nothing behind but the folder."""


@dataclass
class Database:
    """A PostgreSQL among those that are killed and started again."""

    server: Postgres
    chance: random.Random
    name: str = "database"
    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    armed: str = ""
    frozen_until: float = 0.0

    def start(self, *, armed: bool = True) -> None:
        """Start it again after a while."""
        seconds = self.chance.uniform(0.0, AWAY)
        time.sleep(LONG_AWAY if self.chance.randrange(SELDOM) == 0 else seconds)
        self.server.start()

    def kill(self) -> None:
        """kill -9 of all that it consists of."""
        self.server.kill()
        self.kills["at random"] += 1

    def revive(self) -> None:
        """It does not die by itself."""

    def freeze(self, seconds: float) -> None:
        """It is killed instead."""
        self.kill()
        self.start()

    def end(self) -> None:
        """It ends with the place."""


class OnFile:
    """One scheduler on a SQLite file."""

    def __init__(self, folder: Path, seed: int, settings: Sequence[str]) -> None:
        # The first start makes the store and the token, and finds a port that is free.
        with processes.scheduler(folder, *settings) as at:
            self.address, self.token, self.environment = at.address, at.token, at.environment
        words = processes.scheduler_words(folder, "--listen", self.address, *settings)
        self.schedulers = [_scheduler(f"{seed} scheduler", words, folder, processes.clean())]
        self.databases: list[Database] = []
        self._file = folder / "towpath.db"

    def stored(self) -> list[Stored]:
        """See `Place`."""
        return stored.on_disk(self._file)

    def keep(self, folder: Path) -> None:
        """See `Place`."""

    def close(self) -> None:
        """See `Place`."""


class OnPostgres:
    """Several schedulers on a PostgreSQL that keeps what it acknowledges."""

    def __init__(self, folder: Path, seed: int, settings: Sequence[str], replicas: int) -> None:
        from support.postgres import private

        self._server = private()
        try:
            self._url = self._server.url(self._server.database(), tcp=True)
            addresses = processes.free_addresses(replicas)
            # The first start makes the store and the token.
            with processes.replica(folder, self._url, *settings, listen=addresses[0]) as at:
                self.address, self.token = ",".join(addresses), at.token
                self.environment = at.environment | {"TOWPATH_ADDRESS": self.address}
        except BaseException:
            self.close()
            raise
        self.schedulers = []
        for number, address in enumerate(addresses):
            words = processes.replica_words(folder, "--listen", address, *settings)
            mine, where = folder / f"replica-{number}", processes.on_store(self._url)
            self.schedulers.append(_scheduler(f"{seed} scheduler {number}", words, mine, where, WITHOUT_STORE))
        self.databases = [Database(self._server, random.Random(f"{seed} database"))]

    def stored(self) -> list[Stored]:
        """See `Place`."""
        return stored.in_database(self._url)

    def keep(self, folder: Path) -> None:
        """See `Place`."""
        shutil.copy(self._server.log, folder / "postgres.log")

    def close(self) -> None:
        """See `Place`."""
        self._server.remove()


def _scheduler(
    chance: str, words: Sequence[str], folder: Path, environment: Mapping[str, str], excuse: str = ""
) -> Victim:
    points = [(name, 1 if name.startswith("start.") else 60) for name in POINTS]
    return Victim("scheduler", words, folder, environment, points, random.Random(chance), excuse=excuse)
