"""The real program on PostgreSQL: its first start, its password, and workers that go on after a move."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
import pytest

from support import processes
from support.bare_worker import STARTED, BareWorker, result
from support.postgres import Postgres, psycopg, shared
from towpath.v1 import admin_service_pb2, job_pb2, job_service_pb2
from towpath.v1.admin_service_pb2_grpc import AdminServiceStub
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath_server import app
from towpath_server.core.job import DAY
from towpath_server.scheduler import Scheduler
from towpath_server.settings import Settings
from towpath_server.store.base import StoreRefused
from towpath_server.store.postgres import PostgresStore


@pytest.fixture
def url() -> Iterator[str]:
    """Of an empty database."""
    name = shared().database()
    yield shared().url(name)
    shared().drop(name)


class Bare:
    """What a client can ask of a scheduler, without the client."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self.channel = channel
        self.who = (("authorization", f"Bearer {token}"),)
        self._jobs: Any = JobServiceStub(channel)
        self._admin: Any = AdminServiceStub(channel)

    async def create(self) -> str:
        request = job_service_pb2.CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="echo")))
        return str((await self._jobs.CreateJob(request, metadata=self.who)).job.job_id)

    async def get(self, job_id: str) -> job_pb2.Job:
        found: job_pb2.Job = (
            await self._jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id), metadata=self.who)
        ).job
        return found

    async def store(self) -> str:
        answer = await self._admin.GetServerInfo(admin_service_pb2.GetServerInfoRequest(), metadata=self.who)
        return str(answer)


@asynccontextmanager
async def bare(at: processes.Scheduler) -> AsyncIterator[Bare]:
    async with grpc.aio.insecure_channel(at.address) as channel:
        yield Bare(channel, at.token)


async def test_a_password_serves_and_is_shown_nowhere(tmp_path: Path) -> None:
    shared()  # it skips where there is none
    server = Postgres(tcp=True)
    try:
        whole = server.url(server.database(), tcp=True)
        secret = urlsplit(whole).password or ""
        assert secret
        await serves(tmp_path, whole, secret)
    finally:
        server.remove()


async def serves(folder: Path, whole: str, secret: str) -> None:
    bare_url = whole.replace(f":{secret}", "")
    words = processes.scheduler_words(folder, "--listen", "127.0.0.1:0")
    words[words.index("--store") + 1] = bare_url
    environment = processes.clean() | {"PGPASSWORD": secret}
    with ExitStack() as stack:
        process, address = stack.enter_context(processes.start(words, folder, environment))
        first = processes.Scheduler(address, folder / "config", process)
        second = stack.enter_context(processes.replica(folder, whole))
        async with bare(first) as one, bare(second) as two:
            assert 'store: "postgres"' in await one.store()
            job_id = await one.create()
            worker = BareWorker(two.channel, two.who)
            await worker.register()
            [lease] = await worker.lease(wait=10)
            stream = worker.stream()
            await stream.tell(lease, started=STARTED)
            await stream.tell(lease, succeeded=result("done"))
            assert (await one.get(job_id)).state == job_pb2.JOB_STATE_SUCCEEDED
            for text in (await one.store(), await two.store()):
                assert secret not in text
        said = [end(first.process), end(second.process)]
    assert f"store   {bare_url}" in said[0]
    assert f"store   {bare_url}" in said[1]
    assert {line for line in "\n".join(said).splitlines() if "this" in line} == {
        f"  this    is scheduler {number} of those on this store" for number in (1, 2)
    }
    logged = (folder / "towpath_server.log").read_text(encoding="utf-8")
    assert "fsync" in logged
    assert secret not in "".join([*said, logged])


def end(process: processes.Process) -> str:
    """What it said."""
    process.terminate()
    assert process.stdout is not None
    return process.stdout.read()


class Together(Scheduler):
    """Begins once three have seen that there is no token."""

    barrier: asyncio.Barrier

    async def start(self, **words: Any) -> str | None:
        await self.barrier.wait()
        return await super().start(**words)


async def test_of_several_first_starts_one_makes_the_token_that_all_take(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Together, "barrier", asyncio.Barrier(3), raising=False)
    monkeypatch.setattr(app, "Scheduler", Together)
    folders = [tmp_path / "same", tmp_path / "same", tmp_path / "other"]
    settings = [
        Settings.model_validate({"listen": "127.0.0.1:0", "store": url, "config_dir": folder}) for folder in folders
    ]
    running = await asyncio.gather(*(app.start(one) for one in settings))
    try:
        secrets = [one.secret for one in running if one.secret is not None]
        assert len(secrets) == 1
        kept = [path for folder in {*folders} if folder.exists() for path in folder.iterdir()]
        assert [path.name for path in kept] == ["token"]
        assert kept[0].read_text(encoding="utf-8").strip() == secrets[0]
        assert sorted(one.replica for one in running) == [1, 2, 3]
        for one in running:
            assert await one.scheduler.catch_up()
            assert one.scheduler.access.authenticate(secrets[0]).user == "admin"
    finally:
        await asyncio.gather(*(one.stop() for one in running))


@pytest.mark.parametrize("connections", [1, 2, 3])
async def test_too_few_connections_refuse_the_start_and_none_is_kept(
    tmp_path: Path, url: str, connections: int
) -> None:
    settings = Settings.model_validate({"listen": "127.0.0.1:0", "store": url, "config_dir": tmp_path / "config"})
    name = urlsplit(url).path[1:]
    with closing(psycopg.connect(url, autocommit=True)) as owner:
        owner.execute(
            psycopg.sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(psycopg.sql.Identifier(name), connections)
        )
    with pytest.raises(StoreRefused):
        await app.start(settings)
    with closing(psycopg.connect(url, autocommit=True)) as owner:
        owner.execute(psycopg.sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(psycopg.sql.Identifier(name)))
    await (await app.start(settings)).stop()


async def test_all_go_by_the_clock_of_the_database(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = PostgresStore.now
    monkeypatch.setattr(PostgresStore, "now", lambda store: now(store) + DAY)
    running = await app.start(
        Settings.model_validate({"listen": "127.0.0.1:0", "store": url, "config_dir": tmp_path / "config"})
    )
    try:
        ahead = running.scheduler.admin.info().start_time - time.time_ns() // 1000
        assert DAY // 2 < ahead < 2 * DAY
    finally:
        await running.stop()


async def test_workers_go_on_after_a_move_with_what_they_run(tmp_path: Path, url: str) -> None:
    with processes.scheduler(tmp_path) as old:
        async with bare(old) as one:
            job_id, waiting = await one.create(), await one.create()
            worker = BareWorker(one.channel, one.who)
            await worker.register()
            [lease] = await worker.lease(1, wait=10)
            stream = worker.stream()
            await stream.tell(lease, started=STARTED)
            stream.break_off()
    await moved(f"sqlite:///{tmp_path / 'towpath.db'}", url)
    with processes.replica(tmp_path, url) as new:
        async with bare(new) as two:
            again = BareWorker(two.channel, two.who)
            again.session = worker.session
            await again.register([lease])
            stream = again.stream()
            await stream.tell(lease, succeeded=result("done"))
            done = await two.get(job_id)
            assert (done.state, done.attempt_count) == (job_pb2.JOB_STATE_SUCCEEDED, 1)
            [other] = await again.lease(1, wait=10)
            assert other.job.job_id == waiting
            await stream.tell(other, started=STARTED)
    back = tmp_path / "back"
    await moved(url, f"sqlite:///{back / 'towpath.db'}")
    (tmp_path / "config").rename(back / "config")
    with processes.scheduler(back) as third:
        async with bare(third) as three:
            last = BareWorker(three.channel, three.who)
            last.session = again.session
            await last.register([other])
            await last.stream().tell(other, succeeded=result("done"))
            assert (await three.get(waiting)).state == job_pb2.JOB_STATE_SUCCEEDED
            # New ids go on from now, though the numbers of changes do not.
            assert waiting < await three.create() < "job_4"


async def moved(source: str, target: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "towpath_server", "move", "--from", source, "--to", target), env=processes.clean()
    )
    assert await process.wait() == 0
