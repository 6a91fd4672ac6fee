"""Stage counters: every seam is found, counts what goes through it, and is as before afterwards."""

from __future__ import annotations

from support.bare_worker import BareWorker
from support.rpc_stage import Stage
from towpath.v1 import job_pb2, job_service_pb2
from towpath_server.core.records import Role
from towpath_server.rpc import rules
from towpath_server.rpc.boundary import Boundary
from towpath_server.stages import Stages
from towpath_server.store.committer import Committer
from towpath_server.store.sqlite.connection import Connection


async def test_stages_are_counted(stage: Stage) -> None:
    before = rules.check, Boundary._wrap, Committer.submit, Committer._commit, Connection.execute
    stages = Stages()
    stages.install()
    try:
        one = job_service_pb2.CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="echo")))
        batch = job_service_pb2.BatchCreateJobsRequest(requests=[one] * 10)
        await stage.jobs.BatchCreateJobs(batch, metadata=stage.bearer())
        worker = BareWorker(stage.channel, stage.bearer(Role.WORKER))
        await worker.register()
        await worker.lease(1)
    finally:
        stages.uninstall()
    assert stages.missing == []
    counted = {name: (each.calls, each.items) for name, each in stages.stages.items()}
    assert counted["convert in: jobs"] == (10, 10)
    assert counted["convert out: batch"] == (1, 10)
    assert counted["transaction: create"] == (1, 1)
    assert counted["decode"] == counted["rules"]
    assert counted["decode"][0] == 3
    assert "10 jobs" in stages.table()
    after = rules.check, Boundary._wrap, Committer.submit, Committer._commit, Connection.execute
    assert after == before
