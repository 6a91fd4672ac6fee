"""Tokens over the wire: made, invited, redeemed, rotated, and calls that end with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from support.rpc_stage import Metadata, Stage, reason_of, stage, status_of, violations_of
from support.stage import Hands, settled
from towpath.v1 import auth_service_pb2 as pb
from towpath.v1 import job_service_pb2, worker_pb2
from towpath_server.core.ids import show
from towpath_server.core.job import DAY, SECOND
from towpath_server.core.records import Role, Share, Token
from towpath_server.scheduler import Clock, enrolment
from towpath_server.scheduler.access import ROTATIONS, hash_of
from towpath_server.store.base import Recorded

MINUTE, HOUR = 60 * SECOND, 3600 * SECOND
TENANT = worker_pb2.WORKER_SHARE_TENANT


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture(name="stage")
async def _stage(hands: Hands) -> AsyncIterator[Stage]:
    async with stage(clock=Clock(lambda: hands.now, lambda: hands.steady)) as one:
        yield one


def bearer(secret: str) -> Metadata:
    return (("authorization", f"Bearer {secret}"),)


async def somebody(stage: Stage, role: Role, user: str = "ann", tenant: str = "default", **more: Any) -> Metadata:
    """A new token's bearer."""
    _, secret = await stage.scheduler.access.issue(tenant, user, "x", role, **more)
    return bearer(secret)


async def invite(stage: Stage, who: Metadata, **fields: Any) -> pb.CreateEnrollmentTokenResponse:
    return await stage.auth.CreateEnrollmentToken(
        pb.CreateEnrollmentTokenRequest(**{"name": "box", **fields}), metadata=who
    )


async def enrol(stage: Stage, secret: str, name: str = "") -> pb.EnrollWorkerResponse:
    return await stage.auth.EnrollWorker(pb.EnrollWorkerRequest(name=name), metadata=bearer(secret))


async def rotate(stage: Stage, secret: str, overlap: int | None = None) -> pb.RotateTokenResponse:
    request = pb.RotateTokenRequest()
    if overlap is not None:
        request.overlap.FromMicroseconds(overlap)
    return await stage.auth.RotateToken(request, metadata=bearer(secret))


async def works(stage: Stage, secret: str) -> bool:
    try:
        await stage.auth.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(secret))
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return False
    return True


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def end(token: pb.Token) -> int:
    return token.expire_time.ToMicroseconds()


async def test_who_may_make_which_tokens(stage: Stage) -> None:
    def create(who: Metadata, **fields: Any) -> Any:
        return stage.auth.CreateToken(pb.CreateTokenRequest(name="x", **fields), metadata=who)

    root = stage.bearer(Role.ADMIN)
    for role in (pb.ROLE_OPERATOR, pb.ROLE_VIEWER):
        assert (await create(root, role=role)).token.role == role
    elsewhere = await create(root, role=pb.ROLE_ADMIN, tenant="mill", user="zoe")
    assert (elsewhere.token.tenant, elsewhere.token.user) == ("mill", "zoe")
    zoe = bearer(elsewhere.secret)
    assert (await create(zoe, role=pb.ROLE_SUBMITTER, tenant="mill")).token.tenant == "mill"
    error = await refusal(create(zoe, role=pb.ROLE_SUBMITTER, tenant="default"))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "another tenant" in (error.details() or "")

    assert (await create(root, role=pb.ROLE_WORKER, share=TENANT)).token.share == TENANT
    for wrong, field in (
        ({"role": pb.ROLE_ENROLLMENT}, "role"),
        ({"role": pb.ROLE_SUBMITTER, "share": TENANT}, "share"),
        ({"role": pb.ROLE_WORKER, "share": 9}, "share"),
    ):
        error = await refusal(create(root, **wrong))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert set(violations_of(status_of(error))) == {field}


async def test_a_token_of_ten_thousand_years_can_still_be_told(stage: Stage) -> None:
    request = pb.CreateTokenRequest(name="x", role=pb.ROLE_WORKER)
    request.ttl.seconds = 315_576_000_000
    made = (await stage.auth.CreateToken(request, metadata=stage.bearer(Role.ADMIN))).token
    assert made.expire_time.ToDatetime().year == 9999


async def test_who_may_invite_whose_workers(stage: Stage) -> None:
    bob = await somebody(stage, Role.SUBMITTER, "bob")
    own = (await invite(stage, bob)).token
    assert (own.user, own.role, own.share) == ("bob", pb.ROLE_ENROLLMENT, worker_pb2.WORKER_SHARE_USER)
    assert end(own) - own.create_time.ToMicroseconds() == 5 * MINUTE
    assert (await invite(stage, bob, user="bob")).token.user == "bob"
    for fields in ({"user": "ann"}, {"share": TENANT}):
        error = await refusal(invite(stage, bob, **fields))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "ask an admin" in (error.details() or "")
    for role in (Role.ADMIN, Role.OPERATOR):
        asked = await invite(stage, await somebody(stage, role, tenant="mill"), user="bob", share=TENANT)
        assert (asked.token.tenant, asked.token.user, asked.token.share) == ("mill", "bob", TENANT)


async def test_of_a_submitter_s_invitations_only_so_many_stand(
    stage: Stage, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "MOST_STANDING", 3)
    ann = await somebody(stage, Role.SUBMITTER)
    first, *_ = [await invite(stage, ann) for _ in range(3)]
    error = await refusal(invite(stage, ann))
    assert (error.code(), "3 invitations" in (error.details() or "")) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    # Neither others nor those who look after workers are kept from it.
    await invite(stage, await somebody(stage, Role.SUBMITTER, "bob"))
    await invite(stage, stage.bearer(Role.ADMIN), user="ann")
    await enrol(stage, first.secret)
    assert (await refusal(invite(stage, ann))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    hands.now += 300 * SECOND
    await invite(stage, ann)


async def test_an_invitation_becomes_a_credential_once(stage: Stage, hands: Hands) -> None:
    invited = await invite(stage, await somebody(stage, Role.OPERATOR, tenant="mill"), user="bob", share=TENANT)
    hands.now += 5 * MINUTE - 1
    made = (joined := await enrol(stage, invited.secret, "barge")).token
    assert (made.tenant, made.user, made.role, made.share) == ("mill", "bob", pb.ROLE_WORKER, TENANT)
    assert made.name == "barge"
    assert made.token_id != invited.token.token_id
    assert end(made) == hands.now + 90 * DAY
    assert await works(stage, joined.secret)
    error = await refusal(enrol(stage, invited.secret))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    kept = {token.name: token for token in stage.scheduler._store.records(Token)}
    assert kept["box"].revoke_time == hands.now
    assert kept["barge"].secret_hash == hash_of(joined.secret)


async def test_a_credential_lives_as_long_as_the_invitation_says_and_has_its_name(stage: Stage, hands: Hands) -> None:
    request = pb.CreateEnrollmentTokenRequest(name="box")
    request.credential_ttl.FromMicroseconds(7 * DAY)
    invited = await stage.auth.CreateEnrollmentToken(request, metadata=stage.bearer(Role.ADMIN))
    joined = await enrol(stage, invited.secret)
    assert (joined.token.name, end(joined.token)) == ("box", hands.now + 7 * DAY)
    hands.now += 3 * DAY
    # Rotated, it lives as long once more.
    assert end((await rotate(stage, joined.secret)).token) == hands.now + 7 * DAY


async def test_a_revoked_invitation_is_none(stage: Stage) -> None:
    root = stage.bearer(Role.ADMIN)
    invited = await invite(stage, root)
    await stage.auth.RevokeToken(pb.RevokeTokenRequest(token_id=invited.token.token_id), metadata=root)
    assert (await refusal(enrol(stage, invited.secret))).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_rotated_token_goes_on_with_both_secrets_for_a_while(stage: Stage, hands: Hands) -> None:
    token, old = await stage.scheduler.access.issue("default", "ann", "x", Role.VIEWER, 30 * DAY, share=Share.USER)
    fresh = await rotate(stage, old)
    assert fresh.token.previous_expire_time.ToMicroseconds() == hands.now + HOUR
    # It was not made to live on.
    assert end(fresh.token) == token.expire_time
    hands.now += HOUR - 1
    assert [await works(stage, secret) for secret in (old, fresh.secret)] == [True, True]
    hands.now += 1
    assert [await works(stage, secret) for secret in (old, fresh.secret)] == [False, True]


async def test_a_rotation_whose_answer_was_lost_is_asked_for_again(stage: Stage, hands: Hands) -> None:
    _, old = await stage.scheduler.access.issue("default", "ann", "x", Role.VIEWER)
    lost = await rotate(stage, old, 2 * HOUR)
    hands.now += HOUR
    # With a longer overlap, too, the old one ends when it would have.
    fresh = await rotate(stage, old, 100 * HOUR)
    assert [await works(stage, secret) for secret in (old, lost.secret, fresh.secret)] == [True, False, True]
    # Whoever has the new one ends the old one by rotating again.
    last = await rotate(stage, fresh.secret)
    assert [await works(stage, secret) for secret in (old, fresh.secret, last.secret)] == [False, True, True]


async def test_a_token_that_is_rotated_again_and_again_is_kept_waiting(stage: Stage, hands: Hands) -> None:
    _, old = await stage.scheduler.access.issue("default", "ann", "x", Role.VIEWER)
    _, other = await stage.scheduler.access.issue("default", "ann", "y", Role.VIEWER)
    for _ in range(ROTATIONS):
        last = (await rotate(stage, old)).secret
    for secret in (old, last):
        error = await refusal(rotate(stage, secret))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY")
        assert "this token was rotated" in (error.details() or "")
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status_of(error).details)
        assert retry.retry_delay.seconds == 10
    # It has changed nothing, and keeps nobody else waiting.
    assert [await works(stage, secret) for secret in (old, last)] == [True, True]
    await rotate(stage, other)
    hands.move(10)
    await rotate(stage, last)
    assert (await refusal(rotate(stage, last))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    told = stage.scheduler._store.audit(Recorded(action="token.rotated"), 100)
    assert len(told) == ROTATIONS + 2


async def test_the_secret_of_before_ends_no_later_than_it_would_have(stage: Stage, hands: Hands) -> None:
    invited = await invite(stage, stage.bearer(Role.ADMIN))
    joined = await enrol(stage, invited.secret)
    hands.now += 90 * DAY - MINUTE
    fresh = await rotate(stage, joined.secret)
    hands.now += MINUTE
    assert [await works(stage, secret) for secret in (joined.secret, fresh.secret)] == [False, True]
    hands.now += 90 * DAY
    error = await refusal(rotate(stage, fresh.secret))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_revoking_ends_both_secrets(stage: Stage) -> None:
    token, old = await stage.scheduler.access.issue("default", "ann", "x", Role.VIEWER)
    fresh = await rotate(stage, old)
    root = stage.scheduler.access.authenticate(stage.tokens[Role.ADMIN])
    await stage.scheduler.access.revoke(root, token.token_id)
    assert [await works(stage, secret) for secret in (old, fresh.secret)] == [False, False]
    assert (await refusal(rotate(stage, fresh.secret))).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_overlap_is_at_most_a_week(stage: Stage) -> None:
    error = await refusal(rotate(stage, stage.tokens[Role.WORKER], 7 * DAY + SECOND))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def waiting(stage: Stage, *secrets: str) -> list[asyncio.Task[Any]]:
    """A parked call with each of these."""
    job = await stage.create()

    async def wait(secret: str) -> Any:
        return await stage.jobs.WaitJob(job_service_pb2.WaitJobRequest(job_id=job.job_id), metadata=bearer(secret))

    before = len(stage.server._calls._under_way)
    tasks = [asyncio.create_task(wait(secret)) for secret in secrets]
    await settled(lambda: len(stage.server._calls._under_way) == before + len(secrets))
    return tasks


async def test_calls_end_with_the_secret_that_they_were_made_with(stage: Stage, hands: Hands) -> None:
    access = stage.scheduler.access
    _, rotated = await access.issue("default", "admin", "x", Role.SUBMITTER)
    _, short = await access.issue("default", "admin", "y", Role.SUBMITTER, 30 * SECOND)
    first, lasting, ends = await waiting(stage, rotated, stage.tokens[Role.SUBMITTER], short)
    fresh = (await rotate(stage, rotated, MINUTE)).secret
    [second] = await waiting(stage, fresh)
    calls = stage.server._calls
    calls.cut_ended()
    hands.now += 30 * SECOND
    calls.cut_ended()
    assert (await refusal(ends)).code() is grpc.StatusCode.UNAUTHENTICATED
    assert [one.done() for one in (first, second, lasting)] == [False] * 3
    hands.now += 30 * SECOND
    calls.cut_ended()
    assert (await refusal(first)).code() is grpc.StatusCode.UNAUTHENTICATED
    # Rotated once more and again, the second secret is none any more: what goes on with it ends at once.
    newest = (await rotate(stage, fresh)).secret
    await rotate(stage, newest)
    assert (await refusal(second)).code() is grpc.StatusCode.UNAUTHENTICATED
    assert not lasting.done()
    lasting.cancel()


async def test_who_revokes_their_own_token_is_told_so(stage: Stage) -> None:
    token, secret = await stage.scheduler.access.issue("default", "admin", "x", Role.ADMIN)
    [parked] = await waiting(stage, secret)
    request = pb.RevokeTokenRequest(token_id=show("tok", token.token_id))
    assert (await stage.auth.RevokeToken(request, metadata=bearer(secret))).token.HasField("revoke_time")
    assert (await refusal(parked)).code() is grpc.StatusCode.UNAUTHENTICATED
