"""A store with a million queued jobs: how soon it is served, after a stop and after kill -9, and how fast it claims."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest

from support import processes, soak
from support.bare_worker import BareWorker
from support.processes import Process
from towpath.v1 import admin_service_pb2
from towpath.v1.admin_service_pb2_grpc import AdminServiceStub
from towpath_server.core.job import Definition, Priority
from towpath_server.core.records import Principal, Role
from towpath_server.scheduler import FIRST_USER, Scheduler
from towpath_server.scheduler.access import FIRST_TENANT
from towpath_server.scheduler.messages import NewJob
from towpath_server.store.sqlite import SqliteStore

BATCH = 1_000
CLAIMS = 2_000
STARTS = 3
# On top of what the program takes to start with an empty store: Python and what is imported.
SERVED_SECONDS = 1.0
SERVED_AFTER_KILL_SECONDS = 5.0
CLAIM_SECONDS = 0.010
# Enough lanes that choosing between them is work, too.
LANES = 20
OWNER = Principal(token_id=0, tenant=FIRST_TENANT, user=FIRST_USER, role=Role.ADMIN)


async def fill(path: Path, jobs: int) -> str:
    """Submit so many jobs as the product does; the admin's token."""
    scheduler = Scheduler(SqliteStore(path))
    secret = await scheduler.start()
    assert secret is not None

    async def submit(number: int) -> None:
        definition = Definition(
            tenant="", user="", job_type=f"lane-{number % LANES}", request_id="", spec=b"", workspace=f"{number}"
        )
        await scheduler.jobs.create(OWNER, [NewJob(definition, Priority.NORMAL)] * min(BATCH, jobs))

    begun = time.monotonic()
    for first in range(0, jobs // BATCH, 10):
        await asyncio.gather(*map(submit, range(first, min(first + 10, jobs // BATCH))))
    await scheduler.stop()
    print(f"\n{jobs:,} jobs submitted in {time.monotonic() - begun:.0f} s")
    return secret


@dataclass
class Serving:
    """A scheduler that has answered its first call, and how long that took from its start."""

    process: Process
    address: str
    seconds: float


@contextmanager
def serving(folder: Path, metadata: tuple[tuple[str, str], ...]) -> Iterator[Serving]:
    begun = time.monotonic()
    words = processes.scheduler_words(folder, "--listen", "127.0.0.1:0")
    with processes.start(words, folder, processes.clean()) as (process, address):
        with grpc.insecure_channel(address) as channel:
            request = admin_service_pb2.GetServerInfoRequest()
            AdminServiceStub(channel).GetServerInfo(request, metadata=metadata, timeout=60)
        yield Serving(process, address, time.monotonic() - begun)


async def claims(at: Serving, metadata: tuple[tuple[str, str], ...]) -> list[float]:
    """How long each poll took that got one job."""
    taken = []
    async with grpc.aio.insecure_channel(at.address) as channel:
        worker = BareWorker(channel, metadata, *(f"lane-{number}" for number in range(LANES)), slots=4096)
        await worker.register()
        for _ in range(CLAIMS):
            begun = time.monotonic()
            [_lease] = await worker.lease(1)
            taken.append(time.monotonic() - begun)
    return taken


def start(folder: Path, metadata: tuple[tuple[str, str], ...]) -> float:
    """How long a start takes."""
    with serving(folder, metadata) as one:
        return one.seconds


@dataclass(frozen=True)
class Filled:
    """The store, who may use it, and how long a scheduler takes to serve an empty one."""

    folder: Path
    jobs: int
    metadata: tuple[tuple[str, str], ...]
    floor: float


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    jobs, empty, full = soak.scale("TOWPATH_SOAK_QUEUED"), *map(tmp_path_factory.mktemp, ("empty", "full"))
    with processes.scheduler(empty) as at:
        metadata = bearer(at.token)
    floor = min(start(empty, metadata) for _ in range(STARTS))
    return Filled(full, jobs, bearer(asyncio.run(fill(full / "towpath.db", jobs))), floor)


def test_it_is_served_at_once(filled: Filled) -> None:
    with soak.row(f"{filled.jobs:,} queued jobs are served within {SERVED_SECONDS:g} s of a start", "starts") as row:
        for _ in range(STARTS):
            with serving(filled.folder, filled.metadata) as one:
                late(row, one, SERVED_SECONDS, filled)


def test_claims_are_quick(filled: Filled) -> None:
    promise = f"with {filled.jobs:,} queued jobs a claim takes under {CLAIM_SECONDS * 1000:g} ms (p99)"
    with soak.row(promise, "claims") as row, serving(filled.folder, filled.metadata) as one:
        taken = asyncio.run(claims(one, filled.metadata))
        p99 = statistics.quantiles(taken, n=100)[98]
        row.trials, row.violations = len(taken), int(p99 > CLAIM_SECONDS)
        row.note = f"median {statistics.median(taken) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"


def test_it_is_served_soon_after_kill_9(filled: Filled) -> None:
    promise = f"{filled.jobs:,} queued jobs are served within {SERVED_AFTER_KILL_SECONDS:g} s of kill -9"
    with soak.row(promise, "starts") as row:
        for _ in range(STARTS):
            with serving(filled.folder, filled.metadata) as one:
                asyncio.run(claims(one, filled.metadata))
                one.process.kill()
            with serving(filled.folder, filled.metadata) as one:
                late(row, one, SERVED_AFTER_KILL_SECONDS, filled)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def late(row: soak.Row, one: Serving, most: float, filled: Filled) -> None:
    """One start more, from the first instruction of the program to its first answer."""
    row.trials += 1
    row.violations += one.seconds - filled.floor > most
    row.note = f"{row.note or f'an empty store {filled.floor:.2f} s; this one'} {one.seconds:.2f} s"
