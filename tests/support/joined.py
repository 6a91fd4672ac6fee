"""Machines that have been invited by a scheduler of the test's own, and have joined it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from support.rpc_stage import Stage
from towpath import AsyncClient
from towpath.errors import Unauthenticated
from towpath_server.core.records import Role
from towpath_worker import join
from towpath_worker.settings import WorkerSettings


def client(at: Stage, secret: str = "") -> AsyncClient:
    """A client with this token, or the admin's."""
    return AsyncClient(at.address, secret or at.tokens[Role.ADMIN])


async def works(at: Stage, secret: str) -> bool:
    """Whether the scheduler takes it."""
    async with client(at, secret) as asking:
        try:
            await asking.whoami()
        except Unauthenticated:
            return False
    return True


async def invited(at: Stage, folder: Path, **options: Any) -> Path:
    """An invitation's file."""
    async with client(at) as inviting:
        _, secret = await inviting.invite_worker("box", **options)
    file = folder.with_name("invitation")
    file.write_text(secret + "\n")
    return file


async def joining(
    at: Stage, folder: Path, invitation: Path | None, *, server: str = "", **options: Any
) -> WorkerSettings:
    """What `towpath-worker join` does."""
    settings = WorkerSettings(server=server or at.address, state_dir=folder, name="barge")
    options = {"keyring": False, "force": False, **options}
    return await asyncio.to_thread(join.join, settings, invitation, **options)
