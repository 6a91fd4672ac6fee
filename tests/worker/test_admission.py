"""What the worker's owner decides holds also against the scheduler, and is written down."""

from __future__ import annotations

import json
from pathlib import Path

from support.fake_scheduler import FakeScheduler
from support.worker_stage import stage
from towpath.v1 import job_pb2, worker_pb2, worker_service_pb2
from towpath_worker.state import JOB_LOG

Lease = worker_service_pb2.Lease
UNABLE = worker_service_pb2.RELEASE_REASON_UNABLE


def lease(number: int, tenant: str, user: str, custom: str = "t.add", called: str = "t.add") -> Lease:
    """A lease as a scheduler could make it that is wrong, or lies."""
    job = job_pb2.Job(job_id=f"job_{number:013d}", job_type=called, tenant=tenant, user=user)
    job.custom.type = custom
    job.custom.params.update({"x": 1})
    return Lease(job=job, lease_token=f"odd-{number}", attempt=1)


async def answers(scheduler: FakeScheduler, *leases: Lease) -> list[str]:
    """What becomes of each: "ran", or why it was refused."""
    said = []
    for one in leases:
        outcome = await scheduler.outcome(await scheduler.offer_again(one))
        if outcome.HasField("released"):
            assert outcome.released.reason == UNABLE
            said.append(outcome.released.message)
        else:
            assert outcome.HasField("succeeded"), outcome
            said.append("ran")
    return said


async def test_a_job_that_its_owner_did_not_allow_is_never_run(tmp_path: Path) -> None:
    train = job_pb2.Job(job_id=f"job_{9:013d}", job_type="t.add", tenant="acme", user="ann")
    train.train.data.path = "/secret.csv"
    async with stage(tmp_path, allow=("t.add",)) as (scheduler, _):
        said = await answers(
            scheduler,
            lease(1, "acme", "ann", custom="t.exit"),
            Lease(job=train, lease_token="odd-9", attempt=1),
            lease(2, "rival", "ann"),
            lease(3, "acme", "bob\n{}"),
            lease(4, "acme", "ann", called="t.other"),
        )
        assert scheduler.registrations[-1].share == worker_pb2.WORKER_SHARE_UNSPECIFIED
    assert ["--allow" in one for one in said[:2]] == [True, True]
    assert "tenant only" in said[2]
    assert "--share tenant" in said[3]
    assert said[4] == "ran"
    told = [json.loads(line) for line in (tmp_path / JOB_LOG).read_text(encoding="ascii").splitlines()]
    assert [one["event"] for one in told] == ["refused"] * 4 + ["start", "end"]
    assert (told[0]["type"], told[1]["type"]) == ("t.exit", "train")


async def test_a_worker_that_is_shared_runs_the_jobs_of_its_tenant(tmp_path: Path) -> None:
    async with stage(tmp_path, share="tenant") as (scheduler, _):
        said = await answers(scheduler, lease(1, "acme", "bob"), lease(2, "rival", "bob"))
        assert scheduler.registrations[-1].share == worker_pb2.WORKER_SHARE_TENANT
    assert said[0] == "ran"
    assert "tenant only" in said[1]
