"""Each kind of store, empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from towpath_server.store.base import Store
from towpath_server.store.memory import MemoryStore
from towpath_server.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, closed at the end."""
    opened: Store
    match request.param:
        case "memory":
            opened = MemoryStore()
        case "sqlite":
            opened = SqliteStore(tmp_path / "towpath.db")
        case _:
            # Only now: it needs the driver, and a test that cannot have it is skipped.
            from support.postgres_store import emptied

            opened = emptied()
    yield opened
    opened.close()
