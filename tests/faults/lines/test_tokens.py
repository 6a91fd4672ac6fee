"""Lines 24 and 25 of the catalogue: invitations that many want, and tokens that end under their calls."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from support import processes
from support.rpc_stage import Metadata, Stage, stage
from support.stage import Hands, settled
from support.worker_stage import MODULE, TYPES
from towpath import Client
from towpath.v1 import admin_service_pb2, auth_service_pb2_grpc, job_service_pb2, worker_service_pb2
from towpath.v1 import auth_service_pb2 as pb
from towpath_server.core.job import SECOND
from towpath_server.core.records import Role, Token
from towpath_server.scheduler import Clock
from towpath_server.store.sqlite import SqliteStore
from towpath_worker import credential
from towpath_worker.command import EXIT_REFUSED

RACERS, ROUNDS, CHANNELS = 50, 3, 5
# Seconds in which calls of a token that has ended are over.
SOON = 5
# Channels to one address would otherwise share one connection.
OWN = [("grpc.use_local_subchannel_pool", 1)]
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def bearer(secret: str) -> Metadata:
    return (("authorization", f"Bearer {secret}"),)


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


# Line 24


@asynccontextmanager
async def schedulers(kind: str, folder: Path) -> AsyncIterator[list[Stage]]:
    """One on SQLite, or two that share a PostgreSQL."""
    async with AsyncExitStack() as stack:
        if kind == "sqlite":
            yield [await stack.enter_async_context(stage(SqliteStore(folder / "towpath.db")))]
            return
        from support import postgres_store

        stores = [postgres_store.emptied(), postgres_store.kept()]
        yield [await stack.enter_async_context(stage(store)) for store in stores]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_line_24_of_fifty_who_redeem_an_invitation_one_gets_a_credential(kind: str, tmp_path: Path) -> None:
    async with schedulers(kind, tmp_path) as stages, AsyncExitStack() as stack:
        channels = [grpc.aio.insecure_channel(at.address, OWN) for at in stages for _ in range(CHANNELS)]
        for channel in channels:
            await stack.enter_async_context(channel)
        stubs: list[Any] = [auth_service_pb2_grpc.AuthServiceStub(channel) for channel in channels]
        for number in range(ROUNDS):
            invited = await stages[0].auth.CreateEnrollmentToken(
                pb.CreateEnrollmentTokenRequest(name=f"box {number}"), metadata=stages[0].bearer(Role.ADMIN)
            )
            # Known everywhere, so that all of them run at once.
            await stages[-1].scheduler.catch_up()
            racers = [
                stubs[racer % len(stubs)].EnrollWorker(pb.EnrollWorkerRequest(), metadata=bearer(invited.secret))
                for racer in range(RACERS)
            ]
            codes = await asyncio.gather(*map(code_of, racers))
            assert codes.count(grpc.StatusCode.OK) == 1
            assert codes.count(UNAUTHENTICATED) == RACERS - 1
            kept = [token for token in stages[0].scheduler._store.records(Token) if token.name == f"box {number}"]
            assert [(token.role, token.revoke_time is None) for token in kept] == [
                (Role.ENROLLMENT, False),
                (Role.WORKER, True),
            ]


async def test_line_24_an_invitation_is_none_after_five_minutes(tmp_path: Path) -> None:
    hands = Hands()
    async with stage(SqliteStore(tmp_path / "towpath.db"), clock=Clock(lambda: hands.now, lambda: hands.steady)) as at:
        request = pb.CreateEnrollmentTokenRequest(name="box")
        early, late = [
            (await at.auth.CreateEnrollmentToken(request, metadata=at.bearer(Role.ADMIN))).secret for _ in range(2)
        ]

        async def redeem(secret: str) -> grpc.StatusCode:
            return await code_of(at.auth.EnrollWorker(pb.EnrollWorkerRequest(), metadata=bearer(secret)))

        hands.move(299)
        assert await redeem(early) is grpc.StatusCode.OK
        hands.move(2)
        assert await asyncio.gather(*(redeem(late) for _ in range(RACERS))) == [UNAUTHENTICATED] * RACERS


# Line 25


async def parked(at: Stage, *secrets: str) -> list[list[asyncio.Task[grpc.StatusCode]]]:
    """For each of these a poll, a stream of reports, a wait and a watch, all under way."""
    job = await at.create("never")
    before = len(at.server._calls._under_way)
    calls = [await _four(at, job.job_id, bearer(secret)) for secret in secrets]
    await settled(lambda: len(at.server._calls._under_way) == before + 4 * len(secrets))
    await settled(lambda: len(at.scheduler._state.waiters) == len(secrets))
    return calls


async def _four(at: Stage, job_id: str, who: Metadata) -> list[asyncio.Task[grpc.StatusCode]]:
    worker = await at.workers.RegisterWorker(
        worker_service_pb2.RegisterWorkerRequest(name="barge", slots=1, job_types=["echo"]), metadata=who
    )
    named: dict[str, Any] = {"worker_id": worker.worker_id, "session_id": worker.session_id}
    poll = at.workers.LeaseJobs(
        worker_service_pb2.LeaseJobsRequest(**named, poll_id="1", max_jobs=1), metadata=who, timeout=60
    )
    reports = at.workers.ReportJobs(metadata=who)
    beat = worker_service_pb2.Report(heartbeat=worker_service_pb2.Heartbeat())
    await reports.write(worker_service_pb2.ReportJobsRequest(**named, reports=[beat]))
    waits = at.jobs.WaitJob(job_service_pb2.WaitJobRequest(job_id=job_id), metadata=who, timeout=60)
    watch = at.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=who)
    calls: list[Awaitable[Any]] = [poll, _drained(reports), waits, _drained(watch)]
    return [asyncio.create_task(code_of(call)) for call in calls]


async def _drained(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_line_25_calls_of_a_token_that_was_revoked_or_has_ended_are_over_within_five_seconds() -> None:
    hands = Hands()
    async with stage(clock=Clock(lambda: hands.now, lambda: hands.steady)) as at:
        access = at.scheduler.access
        token, revoked = await access.issue("default", "admin", "x", Role.ADMIN)
        _, ends = await access.issue("default", "admin", "y", Role.ADMIN, 10 * SECOND)
        _, rotated = await access.issue("default", "admin", "z", Role.ADMIN)
        *ended, others = await parked(at, revoked, ends, rotated, at.tokens[Role.ADMIN])
        request = pb.RotateTokenRequest()
        request.overlap.FromSeconds(9)
        fresh = (await at.auth.RotateToken(request, metadata=bearer(rotated))).secret
        await access.revoke(access.authenticate(at.tokens[Role.ADMIN]), token.token_id)
        hands.move(10)
        async with asyncio.timeout(SOON):
            for calls in ended:
                assert await asyncio.gather(*calls) == [UNAUTHENTICATED] * 4
        # The new secret of the one that was rotated is good, and calls of other tokens go on.
        assert (await at.auth.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(fresh))).token.name == "z"
        assert not any(call.done() for call in others)
        for call in others:
            call.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def test_line_25_revoking_at_one_scheduler_ends_the_calls_at_another() -> None:
    from support import postgres_store

    async with stage(postgres_store.emptied()) as one, stage(postgres_store.kept()) as other:
        token, secret = await one.scheduler.access.issue("default", "admin", "x", Role.ADMIN)
        [calls] = await parked(other, secret)
        async with asyncio.timeout(SOON):
            await one.scheduler.access.revoke(one.scheduler.access.authenticate(secret), token.token_id)
            assert await asyncio.gather(*calls) == [UNAUTHENTICATED] * 4


async def test_line_25_each_change_of_a_token_leaves_an_audit_row(tmp_path: Path) -> None:
    async with stage(SqliteStore(tmp_path / "towpath.db")) as at:
        root = at.bearer(Role.ADMIN)
        made = await at.auth.CreateToken(pb.CreateTokenRequest(name="x", role=pb.ROLE_VIEWER), metadata=root)
        rotated = await at.auth.RotateToken(pb.RotateTokenRequest(), metadata=bearer(made.secret))
        request = pb.RevokeTokenRequest(token_id=made.token.token_id)
        revoked = await at.auth.RevokeToken(request, metadata=root)
        invited = await at.auth.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(name="box"), metadata=root)
        joined = await at.auth.EnrollWorker(pb.EnrollWorkerRequest(), metadata=bearer(invited.secret))
        events = (await at.admin.ListAuditEvents(admin_service_pb2.ListAuditEventsRequest(), metadata=root)).events
        told = [(one.action, one.subject) for one in reversed(events) if one.origin != "scheduler"]
        made_id, invited_id = made.token.token_id, invited.token.token_id
        assert revoked.token.token_id == rotated.token.token_id == made_id
        assert told == [
            *((f"token.{what}", made_id) for what in ("created", "rotated", "revoked")),
            ("enrolment.invited", invited_id),
            ("enrolment.redeemed", joined.token.token_id),
        ]
        [redeemed] = [one for one in events if one.action == "enrolment.redeemed"]
        assert redeemed.details["invitation"] == invited_id
        assert not any(secret in str(events) for secret in (made.secret, rotated.secret, invited.secret, joined.secret))


def test_line_25_secrets_are_in_no_argv_no_log_and_no_store_and_a_revoked_worker_stops(tmp_path: Path) -> None:
    state, log = tmp_path / "worker" / "state", tmp_path / "worker" / "join.log"
    state.parent.mkdir()
    seen: list[str] = []
    with processes.scheduler(tmp_path) as at, Client(at.address, at.token) as admin:
        _, invitation = admin.invite_worker("box")
        with joining(at, state, log, "join", at.address) as worker:
            assert worker.stdin is not None
            worker.stdin.write(f"{invitation}\n")
            worker.stdin.close()
            assert "serves" in said(worker)
            seen += argv_and_environment(worker.pid, at.process.pid)
            worker.terminate()
            assert worker.wait(processes.STOP_SECONDS) == 0
        kept = credential.find(state)
        assert kept is not None
        # From now on it needs no more than its folder.
        with joining(at, state, log) as worker:
            assert at.address in said(worker)
            seen += argv_and_environment(worker.pid)
            admin.revoke_token(kept.token_id)
            assert worker.wait(processes.STOP_SECONDS) == EXIT_REFUSED
        assert "towpath workers invite" in log.read_text(encoding="utf-8")
        # A process knows those that it needs.
        for secret, places in (
            (invitation, set()),
            (kept.secret, {state / "credential.json"}),
            (at.token, {at.token_file}),
        ):
            assert re.fullmatch(r"tow_[0-9a-f]{64}", secret)
            assert not [one for one in seen if secret in one]
            written = {path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()}
            assert written == places


@contextmanager
def joining(at: processes.Scheduler, state: Path, log: Path, *words: str) -> Iterator[processes.Process]:
    """A worker that knows nothing but what it is told."""
    environment = processes.clean() | {"HOME": str(state.parent), "XDG_CONFIG_HOME": str(state.parent)}
    handlers = ["--state-dir", str(state), "--handlers", MODULE, "--allow", TYPES[0], "--log-level", "debug"]
    with (
        log.open("a", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "towpath_worker", *words, *handlers],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def said(worker: processes.Process) -> str:
    """The first line that it says."""
    assert worker.stdout is not None
    return worker.stdout.readline()


def argv_and_environment(*pids: int) -> list[str]:
    """Those of these processes and of all that they started."""
    family = [one for pid in pids for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    return [" ".join([*one.cmdline(), *one.environ().values()]) for one in family]
