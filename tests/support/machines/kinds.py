"""The stores that the machines compare with their models. Another store is one line more."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from towpath_server.store.base import Store
from towpath_server.store.memory import MemoryStore
from towpath_server.store.sqlite import SqliteStore

# Where there is one, a disk in memory: a thousand fresh files are made, and what fsync does is shown elsewhere.
_DISK = Path("/dev/shm")


@dataclass(frozen=True)
class Kind:
    """A kind of store. `lasts`: what was committed is there when it is opened again at the same place."""

    name: str
    open: Callable[[Path], Store]
    lasts: bool


KINDS = (
    Kind("memory", lambda place: MemoryStore(), lasts=False),
    Kind("sqlite", lambda place: SqliteStore(place / "towpath.db"), lasts=True),
)


def _postgres(place: Path) -> Store:
    # Only now: it needs the driver, and a test that cannot have it is skipped.
    from support import postgres_store

    mark = place / "filled"
    if mark.exists():
        return postgres_store.kept()
    mark.touch()
    return postgres_store.emptied()


# One database for all examples: it is emptied for each.
SHARED_KINDS = (KINDS[0], Kind("postgres", _postgres, lasts=True))


class Opened:
    """A store of a kind at a place of its own."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        disk = str(_DISK) if _DISK.is_dir() else None
        self._place = tempfile.TemporaryDirectory(prefix="towpath-", dir=disk)
        self.store = kind.open(Path(self._place.name))

    def reopen(self, *, close: bool = True) -> None:
        """As after a restart; a store that does not last stays as it is. `close`: nobody has closed it yet."""
        if self.kind.lasts:
            if close:
                self.store.close()
            self.store = self.kind.open(Path(self._place.name))

    def clear_away(self) -> None:
        """Close it and remove its files."""
        self.store.close()
        self._place.cleanup()
