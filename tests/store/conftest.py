"""Each kind of store, empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from towpath_server.store.base import Store
from towpath_server.store.memory import MemoryStore
from towpath_server.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, closed at the end."""
    opened: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "towpath.db")
    yield opened
    opened.close()
