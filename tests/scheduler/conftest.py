"""A stage over each kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.stage import Stage, stage
from towpath_server.store.base import Store
from towpath_server.store.memory import MemoryStore
from towpath_server.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "towpath.db")
    yield opened
    opened.close()


@pytest.fixture
async def s(store: Store) -> AsyncIterator[Stage]:
    async with stage(store) as on_stage:
        yield on_stage
