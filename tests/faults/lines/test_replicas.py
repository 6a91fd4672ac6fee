"""Lines 15 and 19 for schedulers that share a PostgreSQL: it is killed, cuts connections off, or has no room left.

Line 18 and the real processes are in tests/faults/processes/test_replicas.py.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc.aio
import pytest

from support.bare_worker import BareWorker, result
from support.postgres import Postgres, private, psycopg
from support.rpc_stage import Stage, reason_of, stage
from support.small_disk import may_mount, small_disk
from support.store_samples import NOW, job, lane
from towpath.v1 import job_pb2, job_service_pb2, queue_service_pb2
from towpath_server import app
from towpath_server.settings import Settings
from towpath_server.store.base import Store, StoreRefused
from towpath_server.store.postgres import PostgresStore

PATIENCE = 60.0
CALLERS = 8
MIB = 1 << 20
# A new database takes 8 MiB of it.
DISK, BALLAST = 32 * MIB, 12 * MIB
BACKENDS = """SELECT pid FROM pg_stat_activity
WHERE application_name LIKE 'towpath%' AND datname = current_database() AND pid <> pg_backend_pid()"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    own = private()
    yield own
    own.remove()


# Line 19: PostgreSQL is killed.


def submit(store: PostgresStore, number: int) -> int:
    """A new job, and its place among all changes."""
    with store.transaction():
        new = replace(job(number), sequence=store.sequence(NOW))
        store.add_lanes([lane()])
        store.insert([new])
    return new.sequence


def test_line_19_nothing_comes_after_a_crash_at_a_place_that_was_told_before(server: Postgres) -> None:
    url = server.url(server.database(), tcp=True)
    with closing(PostgresStore(url)) as store, closing(store.reader()) as reader:
        first = submit(store, 1)
        # They take ids, and leave nothing on the disk: after a crash those are given to others.
        for _ in range(20):
            with store.transaction():
                pass
        told = reader.news(0, 9).horizon
        assert told >= first
        server.kill()
        server.start()
        assert submit(store, 2) > told
        assert [one.job_id for one in reader.news(told, 9).jobs] == [2]


async def test_line_19_a_scheduler_that_loses_postgres_while_it_starts_says_so(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(store: PostgresStore) -> Store:
        server.kill()
        return reader(store)

    reader = PostgresStore.reader
    monkeypatch.setattr(PostgresStore, "reader", lose)
    url = server.url(server.database(), tcp=True)
    with pytest.raises(StoreRefused, match="gone away while it was opened") as refused:
        await app.start(Settings(store=url, listen="127.0.0.1:0", config_dir=tmp_path))
    assert url not in str(refused.value)
    server.start()


@dataclass
class Load:
    """Callers that create and read all the while, and try nothing twice."""

    sides: Sequence[Stage]
    # The job of each request that was answered, and how those ended that were not.
    kept: dict[str, str] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    callers: list[asyncio.Task[None]] = field(default_factory=list)

    async def call(self, number: int) -> None:
        """One caller: at one of the schedulers, without end."""
        at = self.sides[number % len(self.sides)]
        for count in itertools.count():
            request_id = f"{number} {count}"
            try:
                self.kept[request_id] = await create(at, request_id)
            except grpc.aio.AioRpcError as error:
                self.unsure.append(request_id)
                self._refused(error)
                continue
            await self._read(at, self.kept[request_id], number)

    async def end(self) -> None:
        """Nothing more is called."""
        for caller in self.callers:
            caller.cancel()
        ends = await asyncio.gather(*self.callers, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ends), ends

    async def _read(self, at: Stage, job_id: str, number: int) -> None:
        metadata = at.bearer()
        try:
            if number % 3 == 0:
                await at.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=5), metadata=metadata)
            elif number % 3 == 1:
                await at.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id), metadata=metadata)
            else:
                await at.queues.ListQueues(queue_service_pb2.ListQueuesRequest(), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            self._refused(error)

    def _refused(self, error: grpc.aio.AioRpcError) -> None:
        self.refused[f"{error.code().name} {reason_of(error)}"] += 1

    async def more(self, jobs: int) -> None:
        """Wait until each scheduler has acknowledged so many more."""
        before = self._by_side()
        await until(lambda: all(now >= then + jobs for now, then in zip(self._by_side(), before, strict=True)))

    def _by_side(self) -> list[int]:
        counted = Counter(int(request_id.split()[0]) % len(self.sides) for request_id in list(self.kept))
        return [counted[side] for side in range(len(self.sides))]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the answers to others bring about."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


async def create(at: Stage, request_id: str, job_type: str = "nobody.takes.it", size: int = 0) -> str:
    job = job_pb2.Job(custom=job_pb2.CustomSpec(type=job_type))
    if size:
        # The same for the same request, and nothing that can be made smaller.
        job.custom.params.update({"much": random.Random(request_id).randbytes(size // 2).hex()})
    request = job_service_pb2.CreateJobRequest(job=job, request_id=request_id)
    return (await at.jobs.CreateJob(request, metadata=at.bearer(), timeout=PATIENCE)).job.job_id


@asynccontextmanager
async def loaded(url: str) -> AsyncIterator[Load]:
    """Two schedulers under load."""
    async with stage(PostgresStore(url)) as one, stage(PostgresStore(url)) as other:
        load = Load((one, other))
        load.callers += [asyncio.create_task(load.call(number)) for number in range(CALLERS)]
        yield load
        await load.end()


async def test_line_19_while_postgres_is_dead_calls_are_unavailable_and_nothing_acknowledged_is_lost(
    server: Postgres,
) -> None:
    async with loaded(server.url(server.database(), tcp=True)) as load:
        for away in (server.kill, server.stop):
            await load.more(10)
            await asyncio.to_thread(away)
            failed = load.refused.total()
            await until(lambda failed=failed: load.refused.total() >= failed + CALLERS)  # type: ignore[misc]
            await asyncio.to_thread(server.start)
        await load.more(10)
        await load.end()
        assert load.refused.keys() == {"UNAVAILABLE STORE_UNAVAILABLE"}
        known = [*load.kept, *load.unsure]
        asked = [[create(at, request_id) for request_id in known] for at in load.sides]
        found = [await asyncio.gather(*calls) for calls in asked]
        # One job each, and that which was acknowledged.
        assert found[0] == found[1]
        assert found[0][: len(load.kept)] == list(load.kept.values())


async def test_line_19_connections_that_are_cut_fail_no_call_and_keep_no_worker_asleep(server: Postgres) -> None:
    url = server.url(server.database(), tcp=True)
    async with loaded(url) as load:
        one, other = load.sides
        worker = BareWorker(other.channel, other.bearer(), "wake.up")
        await worker.register()
        with psycopg.connect(url, autocommit=True) as ours:
            backends = [pid for (pid,) in ours.execute(BACKENDS)]
            # Writer, reader, scanner, follower and listener of each.
            assert len(backends) >= 10
            for pid in backends:
                poll = worker.poll(1, wait=PATIENCE)
                ours.execute("SELECT pg_terminate_backend(%s)", (pid,))
                await load.more(5)
                job_id = await create(one, f"after {pid}", "wake.up")
                [lease] = (await poll).leases
                assert lease.job.job_id == job_id
                await worker.stream().tell(lease, succeeded=result("awake"))
        assert not load.refused


# Line 15: PostgreSQL's disk is full.


async def test_line_15_when_postgres_has_no_room_submits_are_refused_reads_go_on_and_it_recovers(
    server: Postgres,
) -> None:
    if not may_mount():
        pytest.skip("this user may mount nothing")
    name = server.database()
    # Not where pytest keeps its files: PostgreSQL runs as a user who may not go there.
    with TemporaryDirectory() as folder, small_disk(Path(folder) / "disk", DISK) as disk:
        shutil.chown(disk, server.folder.owner())
        disk.parent.chmod(0o755)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(BALLAST))
        with psycopg.connect(server.url("postgres").replace("//towpath@", "//postgres@"), autocommit=True) as ours:
            ours.execute(f"CREATE TABLESPACE small LOCATION '{disk}'".encode())
            ours.execute(f"ALTER DATABASE {name} SET TABLESPACE small".encode())
        async with stage(PostgresStore(server.url(name))) as at:
            kept: dict[str, str] = {}
            refused = None
            while refused is None:
                try:
                    kept[str(len(kept))] = await create(at, str(len(kept)), size=MIB)
                except grpc.aio.AioRpcError as error:
                    refused = error
            assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
            found = await at.jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=at.bearer())
            assert {one.job_id for one in found.jobs} == set(kept.values())
            ballast.unlink()
            assert await create(at, str(len(kept)), size=MIB) not in kept.values()
            assert await create(at, "0", size=MIB) == kept["0"]
        server.drop(name)
