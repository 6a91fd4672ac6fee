"""A scripted scheduler for each test, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.fake_jobs import TOKEN, FakeJobs, serving
from towpath import AsyncClient, Client


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TOWPATH_ADDRESS", "TOWPATH_TOKEN", "TOWPATH_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def jobs() -> FakeJobs:
    return FakeJobs()


@pytest.fixture
def address(jobs: FakeJobs) -> Iterator[str]:
    with serving(jobs) as bound:
        yield bound


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, TOKEN, timeout=10) as made:
        yield made


@pytest.fixture
async def aclient(address: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(address, TOKEN, timeout=10) as made:
        yield made
