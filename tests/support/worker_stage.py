"""A real worker in the test's own event loop, against a fake scheduler."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from support.fake_scheduler import FakeScheduler, listening
from towpath_worker.runtime import run_worker
from towpath_worker.settings import WorkerSettings

TESTS = Path(__file__).parents[1]
MODULE = "support.worker_handlers"
TYPES = (
    "t.add",
    "t.talk",
    "t.fail",
    "t.crash",
    "t.exit",
    "t.deaf",
    "t.wait",
    "t.async",
    "t.large",
    "t.flood",
    "t.leftover",
)


@dataclass
class RunningWorker:
    """A worker under test."""

    task: asyncio.Task[int] | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def finished(self) -> int:
        """Waits for its end; its exit code."""
        assert self.task is not None
        return await asyncio.wait_for(self.task, 20)


def settings_for(scheduler: FakeScheduler, state_dir: Path, **changes: Any) -> WorkerSettings:
    """Settings of a worker that serves the handlers for tests, and nothing that needs pandas."""
    given = {"server": scheduler.address, "state_dir": state_dir, "handlers": (MODULE,), "allow": TYPES, "slots": 1}
    return WorkerSettings(**{**given, **changes})


@asynccontextmanager
async def working(scheduler: FakeScheduler, state_dir: Path, **changes: Any) -> AsyncIterator[RunningWorker]:
    """A worker at work, released at the end."""
    # Such as the database of other tests.
    others = set(psutil.Process(os.getpid()).children())
    worker = RunningWorker()
    settings = settings_for(scheduler, state_dir, **changes)
    worker.task = asyncio.create_task(run_worker(settings, stop=worker.stop, release=worker.release))
    try:
        yield worker
    finally:
        worker.release.set()
        await worker.finished()
    mine = set(psutil.Process(os.getpid()).children()) - others
    assert not [one for one in mine if one.status() != psutil.STATUS_ZOMBIE]


@asynccontextmanager
async def stage(state_dir: Path, **changes: Any) -> AsyncIterator[tuple[FakeScheduler, RunningWorker]]:
    """A fake scheduler and a worker."""
    async with listening(FakeScheduler()) as scheduler, working(scheduler, state_dir, **changes) as worker:
        yield scheduler, worker


@asynccontextmanager
async def command(
    tmp_path: Path, *flags: str, token: str = "secret", module: str = MODULE, allow: tuple[str, ...] = TYPES
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The worker as a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
    environment |= {"PYTHONPATH": str(TESTS), "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    if token:
        environment["TOWPATH_TOKEN"] = token
    words = ["--state-dir", str(tmp_path / "state"), "--handlers", module, "--allow", ",".join(allow), *flags]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "towpath_worker",
        *words,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def alive(pid: int) -> bool:
    """Whether a process lives."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
