"""A call is tried again while that makes sense, and never doubles a job."""

from __future__ import annotations

import socket

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from support.fake_jobs import TOKEN, FakeJobs, Refusal, info, serving, value
from towpath import Client, JobState, retrying
from towpath.errors import (
    Aborted,
    InvalidArgument,
    QuotaExceeded,
    ResourceExhausted,
    TowpathError,
    Unauthenticated,
    Unavailable,
)
from towpath.retrying import Backoff, Deadline

UNAVAILABLE = Refusal(grpc.StatusCode.UNAVAILABLE, "draining", info("DRAINING"))
BUSY = Refusal(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "queue full",
    info("TOO_BUSY"),
    error_details_pb2.RetryInfo(retry_delay=Duration(nanos=1_000_000)),
)


@pytest.mark.parametrize("refusal", [UNAVAILABLE, BUSY], ids=["unavailable", "busy"])
def test_a_create_that_is_tried_again_keeps_its_request_id(client: Client, jobs: FakeJobs, refusal: Refusal) -> None:
    jobs.refusals["CreateJob"].extend([refusal, refusal])
    handle = client.submit("count", {"n": 1})
    assert handle.state is JobState.QUEUED
    ids = [request.request_id for request in jobs.requests("CreateJob")]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert len(jobs.jobs) == 1


def test_two_jobs_have_two_request_ids_and_a_given_one_is_kept(client: Client, jobs: FakeJobs) -> None:
    client.submit("count")
    client.submit("count")
    client.submit("count", request_id="mine")
    ids = [request.request_id for request in jobs.requests("CreateJob")]
    assert len(set(ids)) == 3
    assert ids[2] == "mine"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.ABORTED, Aborted),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument),
        # No hint when to come back: coming back is no use.
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhausted),
    ],
)
def test_other_errors_are_raised_at_once(
    client: Client, jobs: FakeJobs, code: grpc.StatusCode, kind: type[TowpathError]
) -> None:
    jobs.refusals["CreateJob"].append(Refusal(code, "no", info("NO")))
    with pytest.raises(kind):
        client.submit("count")
    assert len(jobs.requests("CreateJob")) == 1


def test_a_wrong_token_is_not_tried_again(address: str, jobs: FakeJobs) -> None:
    with Client(address, "tok-wrong") as client, pytest.raises(Unauthenticated):
        client.stats()
    assert len(jobs.calls) == 1


def test_nobody_there_is_said_soon_and_says_what_to_do() -> None:
    with socket.socket() as held:
        # Bound but not listening: nobody answers, and nobody else can take the port.
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with Client(address, TOKEN) as client, pytest.raises(Unavailable, match=r"Start one with `towpath-server`"):
            client.stats()


def test_wait_rides_out_a_restart_of_the_scheduler(jobs: FakeJobs) -> None:
    with serving(jobs) as address:
        client = Client(address, TOKEN)
        handle = client.submit("count")
    again = FakeJobs()
    again.put(jobs.jobs[handle.job_id])
    again.finish(handle.job_id, value(7))
    with client, serving(again, port=int(address.rpartition(":")[2])):
        assert handle.result(timeout=60) == 7


def test_delays_grow_jittered_up_to_a_limit_and_honour_the_hint() -> None:
    backoff = Backoff(Deadline(None), jitter=lambda: 1.0)
    delays = [backoff.next_delay(Unavailable("away")) for _ in range(8)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0]
    hinted = ResourceExhausted("full")
    hinted.retry_after = 20.0
    assert Backoff(Deadline(None), jitter=lambda: 0.5).next_delay(hinted) == 20.05


def test_it_gives_up_before_the_deadline_would_pass() -> None:
    now = [100.0]
    deadline = Deadline(1.0, clock=lambda: now[0])
    backoff = Backoff(deadline, jitter=lambda: 1.0)
    assert backoff.next_delay(Unavailable("away")) == 0.1
    now[0] = 100.85
    assert backoff.next_delay(Unavailable("away")) is None
    assert deadline.remaining() == pytest.approx(0.15)
    now[0] = 102.0
    assert deadline.passed
    assert deadline.remaining() == 0.0


def test_a_watch_that_fell_behind_is_worth_another_try() -> None:
    assert retrying.is_transient(Aborted("behind", reason="SLOW_CONSUMER"))
    assert not retrying.is_transient(Aborted("stale", reason="STALE_ETAG"))


def test_a_full_quota_is_raised_at_once_and_a_rate_is_waited_for(client: Client, jobs: FakeJobs) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=1_000_000))
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    jobs.refusals["CreateJob"].append(Refusal(exhausted, "too many jobs wait", info("QUOTA_EXCEEDED"), retry))
    with pytest.raises(QuotaExceeded, match="too many jobs wait"):
        client.submit("count")
    assert len(jobs.requests("CreateJob")) == 1
    jobs.refusals["CreateJob"].append(Refusal(exhausted, "too many calls", info("RATE_EXCEEDED"), retry))
    client.submit("count")
    assert len(jobs.requests("CreateJob")) == 3
