"""Submits that run at the same time travel together, and each hears what it would have heard alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from support import rpc_stage
from support.fake_jobs import TOKEN, FakeJobs, Refusal, info, serving
from towpath import AsyncClient, Client, coalescing, errors
from towpath._async.batches import create_each
from towpath.coalescing import Coalescer
from towpath.v1 import job_pb2
from towpath.v1.job_service_pb2 import CreateJobRequest
from towpath_server.core.records import Role


class Held(FakeJobs):
    """Holds the first create until it is told, so that those who come meanwhile are sure to meet."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.go = threading.Event(), threading.Event()

    def CreateJob(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        if not self.arrived.is_set():
            self.arrived.set()
            self.go.wait(30)
        return super().CreateJob(request, context)


def number_of(job: job_pb2.Job) -> int:
    return int(job.custom.params.fields["n"].number_value)


async def test_an_idle_client_sends_at_once_and_a_busy_one_in_batches(aclient: AsyncClient, jobs: FakeJobs) -> None:
    for number in range(3):
        await aclient.submit("echo", {"n": number})
    assert len(jobs.requests("CreateJob")) == 3
    handles = await asyncio.gather(*(aclient.submit("echo", {"n": number}) for number in range(1500)))
    assert [number_of(jobs.jobs[handle.job_id]) for handle in handles] == list(range(1500))
    assert [handle.job.spec["params"]["n"] for handle in handles] == list(range(1500))
    assert len(jobs.requests("CreateJob")) <= 5
    sizes = [len(batch.requests) for batch in jobs.requests("BatchCreateJobs")]
    assert len(sizes) <= 4
    assert max(sizes) <= 1000


def test_threads_that_submit_at_the_same_time_share_a_call() -> None:
    jobs = Held()
    with serving(jobs) as address, Client(address, TOKEN) as client, ThreadPoolExecutor(12) as pool:
        first = pool.submit(client.submit, "echo", {"n": 0})
        assert jobs.arrived.wait(30)
        others = [pool.submit(client.submit, "echo", {"n": number}) for number in range(1, 12)]
        handles = [other.result(30) for other in others]
        assert not first.done()
        jobs.go.set()
        handles.insert(0, first.result(30))
    assert [number_of(jobs.jobs[handle.job_id]) for handle in handles] == list(range(12))
    assert len(jobs.requests("CreateJob")) + len(jobs.requests("BatchCreateJobs")) < 12


async def test_only_the_submitter_of_a_wrong_job_hears_of_it(aclient: AsyncClient, jobs: FakeJobs) -> None:
    jobs.refuse_if = lambda job: number_of(job) in (7, 40)
    outcomes = await asyncio.gather(
        *(aclient.submit("echo", {"n": number}) for number in range(60)), return_exceptions=True
    )
    wrong = {number: outcome for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)}
    assert wrong.keys() == {7, 40}
    for error in wrong.values():
        assert isinstance(error, errors.InvalidArgument)
        # As of a call of its own, not as the one of so many.
        assert [one.field for one in error.violations] == ["job.custom"]
    assert len(jobs.jobs) == 58
    # Halved, not sent one by one.
    assert len(jobs.calls) < 40


async def test_a_batch_that_is_tried_again_makes_no_job_twice(aclient: AsyncClient, jobs: FakeJobs) -> None:
    jobs.refusals["BatchCreateJobs"].extend([Refusal(grpc.StatusCode.UNAVAILABLE, "not now", info("DRAINING"))] * 2)
    await asyncio.gather(*(aclient.submit("echo", {"n": number}) for number in range(50)))
    sent = [[one.request_id for one in batch.requests] for batch in jobs.requests("BatchCreateJobs")]
    assert len(sent) == 3
    assert sent[0] == sent[1] == sent[2]
    assert len(jobs.jobs) == 50


async def test_what_would_meet_each_alone_is_told_to_all(aclient: AsyncClient, jobs: FakeJobs) -> None:
    jobs.refusals["BatchCreateJobs"].append(Refusal(grpc.StatusCode.PERMISSION_DENIED, "no", info("NO")))
    outcomes = await asyncio.gather(
        *(aclient.submit("echo", {"n": number}) for number in range(20)), return_exceptions=True
    )
    refused = [one for one in outcomes if isinstance(one, errors.PermissionDenied)]
    assert len(refused) == len(jobs.requests("BatchCreateJobs")[0].requests) == 19
    # Each may be raised, and gets a traceback, by itself.
    assert len({id(one) for one in refused}) == 19


async def test_a_full_store_is_asked_once_for_all(aclient: AsyncClient, jobs: FakeJobs) -> None:
    later = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=3600))
    refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", info("STORE_FULL"), later)
    jobs.refusals["BatchCreateJobs"].extend([refusal] * 100)
    made = [CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="t"))) for _ in range(40)]
    told = await create_each(aclient._connection, made)
    assert [type(one) for one in told] == [errors.ResourceExhausted] * 40
    assert len(jobs.requests("BatchCreateJobs")) == 1
    assert not jobs.requests("CreateJob")


async def test_who_gives_up_waiting_takes_nobody_along() -> None:
    jobs = Held()
    with serving(jobs) as address:
        async with AsyncClient(address, TOKEN) as client:
            first = asyncio.create_task(client.submit("echo", {"n": 0}))
            await asyncio.to_thread(jobs.arrived.wait, 30)
            others = [asyncio.create_task(client.submit("echo", {"n": number})) for number in range(1, 4)]
            await asyncio.sleep(0)
            others[0].cancel()
            assert [number_of(jobs.jobs[(await other).job_id]) for other in others[1:]] == [2, 3]
            # It had not been sent.
            assert sorted(map(number_of, jobs.jobs.values())) == [2, 3]
            jobs.go.set()
            await first
            assert others[0].cancelled()


async def test_nobody_waits_for_a_client_that_was_closed() -> None:
    jobs = Held()
    with serving(jobs) as address:
        client = AsyncClient(address, TOKEN)
        first = asyncio.create_task(client.submit("echo"))
        await asyncio.to_thread(jobs.arrived.wait, 30)
        waiting = [asyncio.create_task(client.submit("echo")) for _ in range(3)]
        await asyncio.sleep(0)
        await client.close()
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
        assert all(isinstance(one, errors.TowpathError) for one in outcomes)
        jobs.go.set()
        await asyncio.gather(first, return_exceptions=True)


def made(creates: Sequence[CreateJobRequest]) -> list[job_pb2.Job | errors.TowpathError]:
    return [job_pb2.Job(job_id=create.request_id) for create in creates]


def test_who_waits_for_an_interrupted_thread_goes_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[str]] = []
    under_way, interrupt = threading.Event(), threading.Event()

    def create_each(creates: Sequence[CreateJobRequest]) -> list[job_pb2.Job | errors.TowpathError]:
        sent.append([create.request_id for create in creates])
        if len(sent) == 1:
            under_way.set()
            interrupt.wait(30)
        return made(creates)

    def interrupted(seconds: float) -> None:
        interrupt.wait(30)
        raise KeyboardInterrupt

    coalescer = Coalescer(create_each)
    monkeypatch.setattr(time, "sleep", interrupted)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(coalescer.create, CreateJobRequest(request_id="first"))
        assert under_way.wait(30)
        leader = pool.submit(coalescer.create, CreateJobRequest(request_id="leader"))
        while not coalescer._waiting:
            assert not leader.done()
        others = [pool.submit(coalescer.create, CreateJobRequest(request_id=f"other-{number}")) for number in (1, 2)]
        while len(coalescer._waiting) < 3:
            assert not any(other.done() for other in others)
        interrupt.set()
        assert isinstance(leader.exception(30), KeyboardInterrupt)
        assert [other.result(30).job_id for other in others] == ["other-1", "other-2"]
        assert first.result(30).job_id == "first"
    assert sorted(sent) == [["first"], ["other-1"], ["other-2"]]


FORKED = """
import os, threading, time
from towpath import coalescing, requests
from towpath.coalescing import Coalescer
from towpath.v1.job_pb2 import Job
from towpath.v1.job_service_pb2 import CreateJobRequest
held, begun = threading.Event(), threading.Event()
def create_each(creates):
    if creates[0].request_id == "parent":
        begun.set()
        held.wait()
    return [Job(job_id=create.request_id) for create in creates]
coalescing.WINDOW = 1000
coalescer = Coalescer(create_each)
for name in ("parent", "waits"):
    threading.Thread(target=coalescer.create, args=[CreateJobRequest(request_id=name)], daemon=True).start()
    begun.wait()
while not coalescer._waiting:
    time.sleep(0.001)
before = requests.process.new_id()
child = os.fork()
if child == 0:
    # The thread that would send is not here, and the lock may have been held.
    assert coalescer.create(CreateJobRequest(request_id="child")).job_id == "child"
    assert requests.process.new_id().split("-")[:5] != before.split("-")[:5]
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_conflict_policies_hold_as_if_each_was_alone() -> None:
    async with rpc_stage.stage() as at, AsyncClient(at.address, at.tokens[Role.ADMIN]) as client:

        async def together(policy: str | None, count: int = 5) -> list[Any]:
            options: Any = {"dedupe_key": "k", "on_conflict": policy}
            # The first of them is under way alone when the others come.
            submits = [client.submit("echo", {"n": number}, **options) for number in range(count)]
            return await asyncio.gather(client.submit("other"), *submits, return_exceptions=True)

        _, holder, *refused = await together("reject")
        assert [one.job_id for one in refused] == [holder.job_id] * 4
        assert all(isinstance(one, errors.DedupeConflict) for one in refused)
        _, *same = await together("return_existing")
        assert {one.job_id for one in same} == {holder.job_id}
        # With the params of the job that is there, not with those that were given here.
        assert [one.job.spec["params"] for one in same] == [{"n": 0}] * 5
        _, *replacing = await together("replace")
        states = [(await one.refresh()).state for one in replacing]
        assert states == ["CANCELLED"] * 4 + ["QUEUED"]
        assert (await holder.refresh()).state == "CANCELLED"


async def test_the_same_request_id_twice_at_once_is_the_same_job() -> None:
    async with rpc_stage.stage() as at, AsyncClient(at.address, at.tokens[Role.ADMIN]) as client:
        first, *same = await asyncio.gather(*(client.submit("echo", {"n": 1}, request_id="mine") for _ in range(4)))
        assert {one.job_id for one in same} == {first.job_id}
        outcomes = await asyncio.gather(
            *(client.submit("echo", {"n": number}, request_id="reused") for number in (1, 1, 2, 1)),
            return_exceptions=True,
        )
        assert [isinstance(one, errors.AlreadyExists) for one in outcomes] == [False, False, True, False]


def test_an_idle_client_waits_for_nobody(client: Client, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever waited would wait for ever.
    monkeypatch.setattr(coalescing, "WINDOW", threading.TIMEOUT_MAX)
    for _ in range(3):
        client.submit("echo")
    assert [name for name, _ in jobs.calls] == ["CreateJob"] * 3
