"""A server for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.rpc_stage import Stage, stage


@pytest.fixture(name="stage")
async def _stage() -> AsyncIterator[Stage]:
    async with stage() as one:
        yield one
