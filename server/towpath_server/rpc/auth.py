"""Who calls, and what each role may call."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol

from towpath_server.core.errors import PermissionDenied, Unauthenticated
from towpath_server.core.records import Principal, Role

ANYBODY = frozenset({Role.ADMIN, Role.SUBMITTER, Role.WORKER})
ADMINS = frozenset({Role.ADMIN})
SUBMITTERS = frozenset({Role.ADMIN, Role.SUBMITTER})
WORKERS = frozenset({Role.ADMIN, Role.WORKER})

# What needs no token.
OPEN = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
    }
)

# Who may call what. A method that is not here is refused to everybody.
ROLES: Mapping[str, frozenset[Role]] = {
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYBODY,
    "/towpath.v1.JobService/CreateJob": SUBMITTERS,
    "/towpath.v1.JobService/BatchCreateJobs": SUBMITTERS,
    "/towpath.v1.JobService/GetJob": SUBMITTERS,
    "/towpath.v1.JobService/ListJobs": SUBMITTERS,
    "/towpath.v1.JobService/UpdateJob": SUBMITTERS,
    "/towpath.v1.JobService/DeleteJob": SUBMITTERS,
    "/towpath.v1.JobService/CancelJob": SUBMITTERS,
    "/towpath.v1.JobService/BatchCancelJobs": SUBMITTERS,
    "/towpath.v1.JobService/PauseJob": SUBMITTERS,
    "/towpath.v1.JobService/ResumeJob": SUBMITTERS,
    "/towpath.v1.JobService/RetryJob": SUBMITTERS,
    "/towpath.v1.JobService/WaitJob": SUBMITTERS,
    "/towpath.v1.JobService/WaitJobs": SUBMITTERS,
    "/towpath.v1.JobService/WatchJob": SUBMITTERS,
    "/towpath.v1.JobService/WatchJobs": SUBMITTERS,
    "/towpath.v1.JobService/StreamJobLogs": SUBMITTERS,
    "/towpath.v1.JobService/ListJobAttempts": SUBMITTERS,
    "/towpath.v1.JobService/ExplainJob": SUBMITTERS,
    "/towpath.v1.JobService/GetJobStats": SUBMITTERS,
    "/towpath.v1.WorkerService/RegisterWorker": WORKERS,
    "/towpath.v1.WorkerService/LeaseJobs": WORKERS,
    "/towpath.v1.WorkerService/ReportJobs": WORKERS,
    "/towpath.v1.WorkerService/SyncModels": WORKERS,
    "/towpath.v1.WorkerService/DeregisterWorker": WORKERS,
    "/towpath.v1.FleetService/ListWorkers": SUBMITTERS,
    "/towpath.v1.FleetService/GetWorker": SUBMITTERS,
    "/towpath.v1.FleetService/DrainWorker": ADMINS,
    "/towpath.v1.QueueService/ListQueues": SUBMITTERS,
    "/towpath.v1.QueueService/GetQueue": SUBMITTERS,
    "/towpath.v1.QueueService/PauseQueue": ADMINS,
    "/towpath.v1.QueueService/ResumeQueue": ADMINS,
    "/towpath.v1.QueueService/PeekQueue": SUBMITTERS,
    "/towpath.v1.AuthService/CreateToken": ADMINS,
    "/towpath.v1.AuthService/ListTokens": ADMINS,
    "/towpath.v1.AuthService/RevokeToken": ADMINS,
    "/towpath.v1.AuthService/WhoAmI": ANYBODY,
    "/towpath.v1.ModelService/ListModels": ANYBODY,
    "/towpath.v1.ModelService/GetModel": ANYBODY,
    "/towpath.v1.AdminService/GetServerInfo": ANYBODY,
    "/towpath.v1.AdminService/GetStats": SUBMITTERS,
    "/towpath.v1.AdminService/CleanupJobs": ADMINS,
}

_caller: ContextVar[Principal] = ContextVar("caller")


class Authenticator(Protocol):
    """What knows the tokens."""

    def authenticate(self, secret: str) -> Principal:
        """Whose secret this is. Raises `Unauthenticated`."""


def caller() -> Principal:
    """Who makes the call that is being served."""
    return _caller.get()


def admit(access: Authenticator, method: str, metadata: object) -> Principal | None:
    """Let the caller in, or raise `Unauthenticated` or `PermissionDenied`. None where the method is open to all."""
    if method in OPEN:
        return None
    principal = access.authenticate(_bearer(metadata))
    if principal.role not in ROLES.get(method, ()):
        raise PermissionDenied(method=method.rpartition("/")[2])
    _caller.set(principal)
    return principal


def _bearer(metadata: object) -> str:
    # grpc.aio gives pairs, or None.
    pairs = metadata if isinstance(metadata, tuple | list) else ()
    values = [value for key, value in pairs if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        raise Unauthenticated
    scheme, _, secret = values[0].partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated
    return secret
