"""QueueService over a socket."""

from __future__ import annotations

import grpc
import pytest

from support.rpc_stage import Stage, reason_of
from towpath.v1 import job_pb2, queue_service_pb2


async def test_queues_come_with_their_first_job_and_in_pages(stage: Stage) -> None:
    for name in ("b", "a", "c"):
        await stage.create(queue=name)
    request = queue_service_pb2.ListQueuesRequest(page_size=2)
    first = await stage.queues.ListQueues(request, metadata=stage.bearer())
    assert [(queue.name, queue.queued_count, queue.paused) for queue in first.queues] == [
        ("a", 1, False),
        ("b", 1, False),
    ]
    request.page_token = first.next_page_token
    second = await stage.queues.ListQueues(request, metadata=stage.bearer())
    assert [queue.name for queue in second.queues] == ["c"]
    assert second.next_page_token == ""


async def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(stage: Stage) -> None:
    await stage.create(queue="slow")
    pause = queue_service_pb2.PauseQueueRequest(name="slow")
    assert (await stage.queues.PauseQueue(pause, metadata=stage.bearer())).queue.paused
    get = queue_service_pb2.GetQueueRequest(name="slow")
    assert (await stage.queues.GetQueue(get, metadata=stage.bearer())).queue.paused
    resume = queue_service_pb2.ResumeQueueRequest(name="slow")
    assert not (await stage.queues.ResumeQueue(resume, metadata=stage.bearer())).queue.paused
    session = await stage.register()
    assert len(await stage.lease(session)) == 1


async def test_a_peek_tells_the_order_of_dispatch(stage: Stage) -> None:
    made = [(await stage.create(priority=priority)).job_id for priority in (2, 1, 4, 2)]
    request = queue_service_pb2.PeekQueueRequest(name="default", page_size=3)
    first = await stage.queues.PeekQueue(request, metadata=stage.bearer())
    request.page_token = first.next_page_token
    second = await stage.queues.PeekQueue(request, metadata=stage.bearer())
    seen = [job.job_id for job in [*first.jobs, *second.jobs]]
    assert seen == [made[2], made[0], made[3], made[1]]
    assert all(job.WhichOneof("spec") is None and job.state == job_pb2.JOB_STATE_QUEUED for job in first.jobs)
    assert second.next_page_token == ""


async def test_a_queue_that_is_not_there_is_not_found(stage: Stage) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.queues.GetQueue(queue_service_pb2.GetQueueRequest(name="none"), metadata=stage.bearer())
    assert reason_of(caught.value) == "QUEUE_NOT_FOUND"
