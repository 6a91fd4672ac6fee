"""Who did what, when and from where is on record, with what it tells of or not at all; no secret is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from support.rpc_stage import Metadata, Stage, raw_unary, stage
from towpath.v1 import (
    admin_service_pb2,
    auth_service_pb2,
    fleet_service_pb2,
    job_service_pb2,
    queue_service_pb2,
    worker_pb2,
    worker_service_pb2,
)
from towpath_server.core.records import Role
from towpath_server.rpc.jobs import MOST_APART
from towpath_server.scheduler import Clock
from towpath_server.scheduler.refusals import MOST, SHARE, SPAN
from towpath_server.store.base import Recorded

WHOAMI = "/towpath.v1.AuthService/WhoAmI"
Event = admin_service_pb2.AuditEvent


@dataclass
class Hands:
    """A clock that stands still until it is moved."""

    now: int = 1_800_000_000_000_000


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture(name="stage")
async def _stage(hands: Hands) -> AsyncIterator[Stage]:
    async with stage(clock=Clock(wall=lambda: hands.now, steady=lambda: hands.now)) as one:
        yield one


async def events(stage: Stage, action: str = "", **asked: Any) -> list[Event]:
    """What the admin is told, the oldest first."""
    # Whoever was refused did not wait for the record of it.
    await stage.scheduler._state.finish()
    request = admin_service_pb2.ListAuditEventsRequest(action=action, page_size=1000, **asked)
    answer = await stage.admin.ListAuditEvents(request, metadata=stage.bearer())
    return list(answer.events)[::-1]


def short(found: list[Event]) -> list[tuple[str, str, dict[str, str]]]:
    return [(one.action, one.subject, dict(one.details)) for one in found]


async def new_token(stage: Stage, **fields: Any) -> auth_service_pb2.CreateTokenResponse:
    return await stage.auth.CreateToken(auth_service_pb2.CreateTokenRequest(**fields), metadata=stage.bearer())


def bearer(secret: str) -> Metadata:
    return (("authorization", f"Bearer {secret}"),)


async def refused(stage: Stage, metadata: Metadata, method: str = WHOAMI) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await raw_unary(stage.channel, method)(b"", metadata=metadata, timeout=5)
    return error.value.code()


async def test_tokens_and_invitations(stage: Stage) -> None:
    before = len(await events(stage))
    made = await new_token(stage, name="ci", role=Role.SUBMITTER, user="bob", ttl={"seconds": 60})
    token, mine = made.token, bearer(made.secret)
    rotated = await stage.auth.RotateToken(auth_service_pb2.RotateTokenRequest(), metadata=mine)
    revoke = auth_service_pb2.RevokeTokenRequest(token_id=token.token_id)
    for _ in range(2):
        await stage.auth.RevokeToken(revoke, metadata=stage.bearer())
    invite = auth_service_pb2.CreateEnrollmentTokenRequest(name="rack")
    invited = await stage.auth.CreateEnrollmentToken(invite, metadata=stage.bearer())
    enrol = auth_service_pb2.EnrollWorkerRequest()
    worker = await stage.auth.EnrollWorker(enrol, metadata=bearer(invited.secret))
    with pytest.raises(grpc.aio.AioRpcError):
        await stage.auth.EnrollWorker(enrol, metadata=bearer(invited.secret))
    told = (await events(stage))[before:]
    assert [one.action for one in told] == [
        *("token.created", "token.rotated", "token.revoked"),
        *("enrolment.invited", "enrolment.redeemed", "enrolment.refused"),
    ]
    created, turned, revoked, asked, redeemed, late = told
    assert dict(created.details) == {"name": "ci", "role": "submitter", "of": "bob", "ttl_s": "60"}
    assert {one.subject for one in (created, turned, revoked)} == {token.token_id} == {turned.token_id}
    assert (created.user, turned.user, revoked.user) == ("admin", "bob", "admin")
    assert redeemed.subject == worker.token.token_id
    assert redeemed.details["invitation"] == asked.subject == redeemed.token_id == late.token_id
    assert late.details["reason"] == "revoked"
    assert all(one.tenant == "default" and one.event_time.seconds == 1_800_000_000 for one in told)
    # From where: the address of this very connection.
    assert {one.origin.rpartition(":")[0] for one in told} == {"127.0.0.1"}
    secrets = [made.secret, rotated.secret, invited.secret, worker.secret, *stage.tokens.values()]
    text = repr(await events(stage)) + repr(stage.scheduler._store.audit(Recorded(), 100))
    assert not [secret for secret in secrets if secret in text or secret[4:20] in text]


async def test_jobs_workers_and_queues(stage: Stage) -> None:
    before = len(await events(stage))
    jobs = [(await stage.create()).job_id for _ in range(14 + MOST_APART)]
    admin = stage.bearer()
    for _ in range(2):
        cancel = job_service_pb2.CancelJobRequest(job_id=jobs[0], reason="too slow\x1b[1m\n")
        await stage.jobs.CancelJob(cancel, metadata=admin)
    few = job_service_pb2.BatchCancelJobsRequest(job_ids=[jobs[14], jobs[0], jobs[15], jobs[14]], reason="old")
    await stage.jobs.BatchCancelJobs(few, metadata=admin)
    many = job_service_pb2.BatchCancelJobsRequest(job_ids=[*jobs[:13], *jobs[14:], "job_0000000000001"])
    await stage.jobs.BatchCancelJobs(many, metadata=admin)
    await stage.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=jobs[0]), metadata=admin)
    for _ in range(2):
        await stage.admin.CleanupJobs(admin_service_pb2.CleanupJobsRequest(), metadata=admin)
    worker = ""
    user, tenant = worker_pb2.WORKER_SHARE_USER, worker_pb2.WORKER_SHARE_TENANT
    # A session that begins again tells nothing, unless it is another token's, or the worker is shared from now on.
    for metadata, share in ((admin, user), (admin, user), (admin, tenant), (stage.bearer(Role.WORKER), user)):
        again = worker_service_pb2.RegisterWorkerRequest(
            worker_id=worker, name="barge", slots=1, job_types=["echo"], share=share
        )
        worker = (await stage.workers.RegisterWorker(again, metadata=metadata)).worker_id
    for _ in range(2):
        await stage.fleet.DrainWorker(fleet_service_pb2.DrainWorkerRequest(worker_id=worker), metadata=admin)
    remove = fleet_service_pb2.RemoveWorkerRequest(worker_id=worker)
    void = (await stage.fleet.RemoveWorker(remove, metadata=admin)).revoked_token_id
    for _ in range(2):
        await stage.queues.PauseQueue(queue_service_pb2.PauseQueueRequest(name="default"), metadata=admin)
    await stage.queues.ResumeQueue(queue_service_pb2.ResumeQueueRequest(name="default"), metadata=admin)
    # What is refused leaves nothing.
    for call in (
        stage.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job_id=jobs[13]), metadata=admin),
        stage.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=jobs[1]), metadata=admin),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    told = short((await events(stage))[before:])
    assert [(action, subject) for action, subject, _ in told] == [
        *(("job.cancelled", jobs[0]), ("job.cancelled", jobs[14]), ("job.cancelled", jobs[15])),
        *(("job.cancelled", ""), ("job.deleted", jobs[0]), ("job.cleaned_up", "")),
        *[("worker.joined", worker)] * 3,
        *(("worker.drained", worker), ("worker.removed", worker), ("token.revoked", void)),
        *(("queue.paused", "default"), ("queue.resumed", "default")),
    ]
    assert told[0][2] == {"reason": "too slow\x1b[1m\n"}
    assert told[1][2] == told[2][2] == {"reason": "old"}
    # Of a few each is found by its id, of many only their number is told.
    assert len(await events(stage, subject=jobs[15])) == 1
    assert told[3][2] == {"count": str(12 + MOST_APART - 2), "jobs": " ".join(jobs[1:11])}
    assert told[6][2] == {"name": "barge", "share": "user"}


async def test_what_is_refused_is_told_once_and_then_counted(stage: Stage, hands: Hands) -> None:
    before = len(await events(stage))
    for _ in range(3):
        assert await refused(stage, ()) is grpc.StatusCode.UNAUTHENTICATED
        assert await refused(stage, bearer("tow_nonsense")) is grpc.StatusCode.UNAUTHENTICATED
        create = "/towpath.v1.AuthService/CreateToken"
        assert await refused(stage, stage.bearer(Role.WORKER), create) is grpc.StatusCode.PERMISSION_DENIED
    found = (await events(stage))[before:]
    assert short(found) == [
        ("login.refused", "", {"method": "WhoAmI", "reason": "no token"}),
        ("login.refused", "", {"method": "WhoAmI", "reason": "unknown token"}),
        ("access.refused", "", {"method": "CreateToken"}),
    ]
    assert [(one.tenant, one.user) for one in found] == [("", ""), ("", ""), ("default", "admin")]
    hands.now += SPAN
    stage.scheduler.refusals._look()
    await stage.scheduler._state.finish()
    counted = (await events(stage))[before + 3 :]
    assert [(one.action, one.details["count"], one.origin) for one in counted] == [
        (one.action, "2", one.origin) for one in found
    ]


async def test_a_flood_of_refusals_from_everywhere_leaves_few_rows(stage: Stage) -> None:
    before = len(await events(stage))
    for number in range(20_000):
        origin = f"10.{number >> 8}.{number & 255}.1:{number}" if number % 2 else f"[2001:db8:{number:x}::1]:9"
        stage.scheduler.refusals.login("WhoAmI", f"tow_{number}", origin)
    await stage.scheduler._state.finish()
    assert len(await events(stage)) == before + SHARE + 1
    await stage.scheduler.refusals.finish()
    found = (await events(stage))[before:]
    assert sum(int(one.details.get("count", 1)) for one in found) == 20_000
    assert len(stage.scheduler.refusals._told) <= MOST + 1


async def test_neither_a_tenant_nor_all_strangers_hide_what_others_are_refused(stage: Stage) -> None:
    access, refusals = stage.scheduler.access, stage.scheduler.refusals
    _, mill = await access.issue("mill", "zoe", "x", Role.WORKER)
    _, acme = await access.issue("acme", "ann", "x", Role.WORKER)
    for number in range(2 * MOST):
        refusals.login("WhoAmI", None, f"10.0.{number}.1:1")
        refusals.role(f"Method{number}", mill, "10.0.0.1:1")
    for _ in range(3):
        refusals.role("CreateToken", acme, "10.0.0.2:1")
    await stage.scheduler._state.finish()
    await refusals.finish()
    found = stage.scheduler._store.audit(Recorded(), 1000)

    def counts(tenant: str) -> list[tuple[str, str, int]]:
        mine = [one for one in found[::-1] if one.tenant == tenant and one.action.endswith("refused")]
        return [(one.user, one.details.get("method", ""), int(one.details.get("count", 1))) for one in mine]

    assert counts("acme") == [("ann", "CreateToken", 1), ("ann", "CreateToken", 2)]
    # Of the loud one its admin sees how many they were in all, and some of them.
    loud = counts("mill")
    assert (len(loud), sum(count for *_, count in loud)) == (SHARE + 2, 2 * MOST)
    assert [user for user, *_ in loud] == ["zoe"] * SHARE + [""] * 2
    assert sum(count for *_, count in counts("")) == 2 * MOST


async def test_addresses_of_one_network_are_one_origin(stage: Stage) -> None:
    before = len(await events(stage))
    for number in range(1, 50):
        stage.scheduler.refusals.login("WhoAmI", None, f"[2001:db8::{number:x}]:{number}")
        stage.scheduler.refusals.login("WhoAmI", None, f"[::ffff:10.0.0.1]:{number}")
    await stage.scheduler._state.finish()
    assert len(await events(stage)) == before + 2


async def test_pages_and_filters(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        await new_token(stage, name=name, role=Role.VIEWER)
    request = admin_service_pb2.ListAuditEventsRequest(action="token.", page_size=2)
    names: list[str] = []
    while True:
        page = await stage.admin.ListAuditEvents(request, metadata=stage.bearer())
        names += [one.details["name"] for one in page.events]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names[:3] == ["c", "b", "a"]
    assert sorted(names[3:]) == sorted(role.name.lower() for role in stage.tokens if role is not Role.ENROLLMENT)
    [one] = await events(stage, subject=(await events(stage))[-1].subject)
    assert one.details["name"] == "c"
    assert await events(stage, user="nobody") == []
    assert await events(stage, action="queue.") == []
    other = admin_service_pb2.ListAuditEventsRequest(action="job.", page_token=request.page_token)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stage.admin.ListAuditEvents(other, metadata=stage.bearer())
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_each_tenant_sees_its_own_and_who_runs_the_scheduler_what_nobody_did(stage: Stage) -> None:
    _, acme = await stage.scheduler.access.issue("acme", "ann", "boss", Role.ADMIN)
    await refused(stage, ())
    pause = queue_service_pb2.PauseQueueRequest(name="default")
    await stage.queues.PauseQueue(pause, metadata=bearer(acme))
    theirs = await stage.admin.ListAuditEvents(admin_service_pb2.ListAuditEventsRequest(), metadata=bearer(acme))
    assert [(one.action, one.tenant, one.user) for one in theirs.events] == [("queue.paused", "acme", "ann")]
    ours = await events(stage)
    assert {one.tenant for one in ours} == {""}
    assert {one.action for one in ours} == {"token.created", "enrolment.invited", "login.refused"}
    for role in set(stage.tokens) - {Role.ADMIN}:
        method = "/towpath.v1.AdminService/ListAuditEvents"
        assert await refused(stage, stage.bearer(role), method) is grpc.StatusCode.PERMISSION_DENIED


async def test_a_tenant_sees_the_tokens_that_others_made_for_it(stage: Stage) -> None:
    _, acme = await stage.scheduler.access.issue("acme", "ann", "boss", Role.ADMIN)
    made = (await new_token(stage, name="x", role=Role.ADMIN, user="eve", tenant="acme")).token
    [ours] = await events(stage, action="token.", subject=made.token_id)
    theirs = (
        await stage.admin.ListAuditEvents(admin_service_pb2.ListAuditEventsRequest(), metadata=bearer(acme))
    ).events
    assert [(one.action, one.subject, one.tenant, one.user) for one in (ours, *theirs)] == [
        ("token.created", made.token_id, "default", "admin"),
        ("token.created", made.token_id, "acme", ""),
    ]
    details = {"name": "x", "role": "admin", "tenant": "acme", "of": "eve"}
    assert (dict(ours.details), dict(theirs[0].details)) == (details, {**details, "by": "default/admin"})
    # Whoever runs the scheduler does not tell others from where, nor with which token.
    assert (theirs[0].origin, theirs[0].token_id) == ("", "")


async def test_what_cannot_be_recorded_is_not_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(events: object) -> None:
        raise RuntimeError("no")

    before = len(stage.scheduler.access._tokens)
    monkeypatch.setattr(stage.scheduler._store, "append_audit", broken)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await new_token(stage, name="x", role=Role.VIEWER)
    assert error.value.code() is grpc.StatusCode.INTERNAL
    monkeypatch.undo()
    listed = await stage.auth.ListTokens(auth_service_pb2.ListTokensRequest(), metadata=stage.bearer())
    assert len(listed.tokens) == before == len(stage.scheduler.access._tokens)
