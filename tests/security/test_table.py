"""The table of who may call what: it has every RPC that is served, and each role has in it what it is for."""

from __future__ import annotations

from support.who_may import all_served, described
from towpath_server.core.records import Role
from towpath_server.rpc.roles import OPEN, ROLES
from towpath_server.rpc.server import make_server
from towpath_server.scheduler import Scheduler
from towpath_server.store.memory import MemoryStore

# What these names begin with changes nothing.
READING = ("Get", "List", "Watch", "Wait", "Stream", "Peek", "Explain", "WhoAmI", "ServerReflectionInfo")
# Changes nothing but the caller's own secret.
OWN_SECRET = "/towpath.v1.AuthService/RotateToken"


def of(role: Role) -> set[str]:
    return {method for method, roles in ROLES.items() if role in roles}


async def test_the_table_lists_every_method_that_is_served_and_no_other() -> None:
    with all_served() as served:
        make_server(Scheduler(MemoryStore()))
    assert set(ROLES) | OPEN == served
    assert not set(ROLES) & OPEN
    assert all(method.startswith("/grpc.health.v1.Health/") for method in OPEN)
    # By their descriptors: what a client can know of is there, and the other way round.
    services = {described(method).containing_service for method in served}
    assert served == {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}


def test_a_viewer_changes_nothing() -> None:
    reading = {method for method in of(Role.VIEWER) if method.rpartition("/")[2].startswith(READING)}
    assert of(Role.VIEWER) - reading == {OWN_SECRET}


def test_an_operator_sees_what_a_viewer_sees_and_runs_nothing_of_his_own() -> None:
    assert of(Role.VIEWER) < of(Role.OPERATOR) < of(Role.ADMIN)
    more = {method for method in of(Role.ADMIN) - of(Role.OPERATOR) if "/towpath.v1.WorkerService/" not in method}
    assert {method.rpartition("/")[2] for method in more} == {
        *("CreateJob", "BatchCreateJobs"),
        *("CreateToken", "ListTokens", "RevokeToken"),
        *("ListAuditEvents", "SetQuota", "DeleteQuota"),
    }


def test_a_submitter_has_jobs_and_may_invite_a_worker() -> None:
    changing = {method for method in of(Role.SUBMITTER) if not method.rpartition("/")[2].startswith(READING)}
    outside = {method for method in changing if "/towpath.v1.JobService/" not in method}
    assert outside == {OWN_SECRET, "/towpath.v1.AuthService/CreateEnrollmentToken"}
    assert {method for method in ROLES if "/towpath.v1.JobService/" in method} < of(Role.SUBMITTER)


def test_a_worker_does_its_work_and_reads_no_job_of_its_own_accord() -> None:
    assert {method.rpartition("/")[2] for method in of(Role.WORKER)} == {
        *("RegisterWorker", "LeaseJobs", "ReportJobs", "SyncModels", "DeregisterWorker"),
        *("ListModels", "GetModel", "GetServerInfo", "WhoAmI", "RotateToken", "ServerReflectionInfo"),
    }


def test_an_invitation_is_good_for_one_thing_and_for_that_alone() -> None:
    assert of(Role.ENROLLMENT) == {"/towpath.v1.AuthService/EnrollWorker"}
    assert ROLES["/towpath.v1.AuthService/EnrollWorker"] == {Role.ENROLLMENT}
