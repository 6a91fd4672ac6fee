"""Stores with many queued jobs: filled once through the real scheduler, kept as files, copied for each use."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.programs import HOME
from towpath_server.core.job import Definition, Priority, Requirements
from towpath_server.core.records import Machine, Principal, Role
from towpath_server.scheduler import FIRST_USER, Scheduler
from towpath_server.scheduler.access import FIRST_TENANT
from towpath_server.scheduler.messages import NewJob, Registered, Registration
from towpath_server.store.sqlite import SqliteStore

STORE = "towpath.db"
BATCH = 1_000
AT_ONCE = 10
PAYLOAD = b"x" * 200
MINE = "bench.noop"
LABEL = ("pool", "other")


@dataclass(frozen=True, slots=True)
class Layout:
    """How queued jobs are spread: jobs go to tenants and lanes in turn, oldest first everywhere.

    `strange`: of each ten jobs so many ask for a label that the worker that asks does not have.
    """

    jobs: int
    lanes: int = 1
    tenants: int = 1
    strange: int = 0

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.jobs}-{self.lanes}-{self.tenants}-{self.strange}"

    def new(self, number: int) -> NewJob:
        """The job with this number."""
        needs = Requirements(worker_labels=(LABEL,)) if number % 10 < self.strange else Requirements()
        lane = number // 10 % self.lanes if self.strange else number % self.lanes
        definition = Definition(
            tenant="",
            user="",
            job_type=MINE,
            queue=f"queue-{lane}",
            spec=PAYLOAD,
            requirements=needs,
            request_id=str(number),
        )
        return NewJob(definition, Priority.NORMAL)


def tenant(number: int) -> Principal:
    """The submitter of a tenant; the first is the admin who asks for jobs."""
    if number == 0:
        return Principal(token_id=0, tenant=FIRST_TENANT, user=FIRST_USER, role=Role.ADMIN)
    return Principal(token_id=0, tenant=f"tenant-{number}", user="user", role=Role.SUBMITTER)


def copy(layout: Layout, folder: Path) -> Path:
    """A folder that holds a store of that layout, and the admin's token in `config`."""
    kept = HOME / "queued" / layout.name
    if not (kept / "complete").exists():
        shutil.rmtree(kept, ignore_errors=True)
        (kept / "config").mkdir(parents=True)
        secret = asyncio.run(_fill(layout, kept / STORE))
        (kept / "config" / "token").write_text(secret + "\n", encoding="utf-8")
        (kept / "complete").touch()
    target = folder / layout.name
    shutil.copytree(kept, target, ignore=shutil.ignore_patterns("complete", "*.lock"))
    return target


async def _fill(layout: Layout, path: Path) -> str:
    scheduler = Scheduler(SqliteStore(path))
    secret = await scheduler.start()
    assert secret is not None
    gate = asyncio.Semaphore(AT_ONCE)

    async def create(batch: int) -> None:
        async with gate:
            numbers = range(batch * BATCH, min((batch + 1) * BATCH, layout.jobs))
            # A call is one tenant's: the tenants take turns.
            await scheduler.jobs.create(tenant(batch % layout.tenants), [layout.new(number) for number in numbers])

    await asyncio.gather(*map(create, range(-(-layout.jobs // BATCH))))
    await scheduler.stop()
    return secret


async def register(scheduler: Scheduler, principal: Principal, slots: int = 4096) -> Registered:
    """A worker that serves the jobs of a layout, but not those that ask for the label."""
    machine = Machine(cpu_count=2, memory_mb=4096, hostname="bench")
    asked = Registration(worker_id=None, name="bench", slots=slots, job_types=(MINE,), machine=machine)
    return await scheduler.workers.register(principal, asked)
