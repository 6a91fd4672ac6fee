"""Workers over the wire, as those see them who look after them: shared ones, and removed ones."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from support.rpc_stage import Metadata, Stage, reason_of
from towpath.v1 import auth_service_pb2, fleet_service_pb2, worker_pb2, worker_service_pb2
from towpath_server.core.records import Role, Share

USER, TENANT = worker_pb2.WORKER_SHARE_USER, worker_pb2.WORKER_SHARE_TENANT


async def credential(stage: Stage, user: str, role: Role = Role.WORKER, share: Share = Share.USER) -> Metadata:
    _, secret = await stage.scheduler.access.issue("default", user, "box", role, share=share)
    return (("authorization", f"Bearer {secret}"),)


async def register(
    stage: Stage, metadata: Metadata, share: worker_pb2.WorkerShare.ValueType = worker_pb2.WORKER_SHARE_UNSPECIFIED
) -> worker_service_pb2.RegisterWorkerResponse:
    request = worker_service_pb2.RegisterWorkerRequest(name="box", slots=1, job_types=["echo"], share=share)
    return await stage.workers.RegisterWorker(request, metadata=metadata)


async def workers(stage: Stage, metadata: Metadata) -> list[worker_pb2.Worker]:
    request = fleet_service_pb2.ListWorkersRequest(include_offline=True)
    return list((await stage.fleet.ListWorkers(request, metadata=metadata)).workers)


async def test_a_worker_is_shared_where_its_token_and_its_owner_say_so(stage: Stage) -> None:
    ann = await credential(stage, "ann", Role.SUBMITTER)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await register(stage, await credential(stage, "bob"), TENANT)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(caught.value) == "FORBIDDEN"
    assert "towpath workers invite --share tenant" in (caught.value.details() or "")
    # What its token allows it need not do.
    await register(stage, await credential(stage, "bob", share=Share.TENANT))
    await register(stage, await credential(stage, "bob"), USER)
    assert await workers(stage, ann) == []
    assert [one.share for one in await workers(stage, stage.bearer(Role.VIEWER))] == [USER, USER]
    shared = await register(stage, await credential(stage, "bob", share=Share.TENANT), TENANT)
    assert [(one.worker_id, one.share) for one in await workers(stage, ann)] == [(shared.worker_id, TENANT)]


async def test_a_removed_worker_is_cut_off_at_once(stage: Stage) -> None:
    bob = await credential(stage, "bob")
    worker = await register(stage, bob)
    poll = worker_service_pb2.LeaseJobsRequest(
        worker_id=worker.worker_id, session_id=worker.session_id, poll_id="1", max_jobs=1
    )
    parked = stage.workers.LeaseJobs(poll, metadata=bob)
    request = fleet_service_pb2.RemoveWorkerRequest(worker_id=worker.worker_id)
    removed = await stage.fleet.RemoveWorker(request, metadata=stage.bearer(Role.OPERATOR))
    me = await stage.auth.ListTokens(auth_service_pb2.ListTokensRequest(), metadata=stage.bearer())
    assert removed.revoked_token_id == me.tokens[0].token_id
    assert me.tokens[0].HasField("revoke_time")
    assert await parked.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await register(stage, bob)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert await workers(stage, stage.bearer()) == []
