"""Who calls: without a token, with a wrong one, with another's, with a lesser one."""

from __future__ import annotations

import re
import secrets
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from google.protobuf import duration_pb2, field_mask_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor

from security.attacks.ground import SECONDS, C, Fell, Party, Skipped, Target, attack, code_of, expect
from towpath.v1 import (
    admin_service_pb2,
    auth_service_pb2,
    fleet_service_pb2,
    job_pb2,
    job_service_pb2,
    model_service_pb2,
    queue_service_pb2,
    worker_service_pb2,
)

FILES: tuple[Any, ...] = (
    *(job_service_pb2, worker_service_pb2, fleet_service_pb2, queue_service_pb2),
    *(auth_service_pb2, model_service_pb2, admin_service_pb2),
)
GUESSES = 200
RACERS = 20
NEVER = "job_0000000000001"
LOOKS = 60
PRIORITY = field_mask_pb2.FieldMask(paths=["priority"])


def _methods() -> list[MethodDescriptor]:
    """Every RPC, read from the descriptors."""
    services = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
    return [method for service in services for method in service.methods]


def _all(target: Target, metadata: Any) -> set[tuple[grpc.StatusCode, str]]:
    """What an empty request of each of them comes to."""
    found = set()
    for method in _methods():
        path = f"/{method.containing_service.full_name}/{method.name}"
        raw: Any = message_factory.GetMessageClass(method.input_type)().SerializeToString()
        call: Any = target.channel.unary_unary(path)
        if method.client_streaming:
            call, raw = target.channel.stream_stream(path), iter([raw])
        elif method.server_streaming:
            call = target.channel.unary_stream(path)
        found.add(code_of(partial(call, raw, metadata=metadata, timeout=SECONDS)))
    return found


@attack("no token", "every RPC, without a token")
def no_token(target: Target) -> str:
    return expect(_all(target, ()), C.UNAUTHENTICATED, same_words=True)


@attack("wrong token", "every RPC with a token that never was; eight malformed headers")
def wrong_token(target: Target) -> str:
    secret = target.secret or "x"
    made_up = f"Bearer tow_{secrets.token_hex(32)}"
    found = _all(target, (("authorization", made_up),))
    who: Any = target.channel.unary_unary("/towpath.v1.AuthService/WhoAmI")
    for metadata in (
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (("authorization", f"Basic {secret}"),),
        (("authorization", secret),),
        (("authorization", f"Bearer {secret[:-1]}"),),
        (("authorization", f"Bearer {secret}"), ("authorization", made_up)),
        (("x-authorization", f"Bearer {secret}"), ("cookie", f"token={secret}")),
    ):
        found.add(code_of(partial(who, b"", metadata=metadata, timeout=SECONDS)))
    return expect(found, C.UNAUTHENTICATED, same_words=True)


@attack("guessing", f"{GUESSES} tokens, as fast as they are answered")
def guessing(target: Target) -> str:
    who: Any = target.channel.unary_unary("/towpath.v1.AuthService/WhoAmI")

    def guess(_: int) -> tuple[grpc.StatusCode, str]:
        metadata = (("authorization", f"Bearer tow_{secrets.token_hex(32)}"),)
        return code_of(lambda: who(b"", metadata=metadata, timeout=SECONDS))

    begun = time.monotonic()
    with ThreadPoolExecutor(16) as threads:
        found = set(threads.map(guess, range(GUESSES)))
    rate = GUESSES / (time.monotonic() - begun)
    shown = expect(found, C.UNAUTHENTICATED, C.RESOURCE_EXHAUSTED)
    return (
        f"{shown}; at {rate:,.0f} a second, 256 random bits take 10^{len(str(int(2**255 / rate / 31_557_600)))} years"
    )


def _asked(job_id: str, by: Party) -> dict[str, tuple[grpc.StatusCode, str]]:
    pb, jobs = job_service_pb2, by.jobs
    calls = {
        "GetJob": (jobs.GetJob, pb.GetJobRequest(job_id=job_id)),
        "UpdateJob": (
            jobs.UpdateJob,
            pb.UpdateJobRequest(job=job_pb2.Job(job_id=job_id), update_mask=PRIORITY),
        ),
        "DeleteJob": (jobs.DeleteJob, pb.DeleteJobRequest(job_id=job_id)),
        "CancelJob": (jobs.CancelJob, pb.CancelJobRequest(job_id=job_id)),
        "PauseJob": (jobs.PauseJob, pb.PauseJobRequest(job_id=job_id)),
        "RetryJob": (jobs.RetryJob, pb.RetryJobRequest(job_id=job_id)),
        "WaitJob": (jobs.WaitJob, pb.WaitJobRequest(job_id=job_id, wait_timeout=duration_pb2.Duration(seconds=1))),
        "WatchJob": (jobs.WatchJob, pb.WatchJobRequest(job_id=job_id)),
        "StreamJobLogs": (jobs.StreamJobLogs, pb.StreamJobLogsRequest(job_id=job_id)),
        "ListJobAttempts": (jobs.ListJobAttempts, pb.ListJobAttemptsRequest(job_id=job_id)),
        "ExplainJob": (jobs.ExplainJob, pb.ExplainJobRequest(job_id=job_id)),
    }
    asked = {name: by.code(method, request) for name, (method, request) in calls.items()}
    return {name: (code, re.sub(r"job_\w{13}", "JOB", words)) for name, (code, words) in asked.items()}


@attack("another's job", "11 calls on a job of another user, and on one that never was")
def anothers_job(target: Target) -> str:
    victim = target.party(auth_service_pb2.ROLE_SUBMITTER)
    thief = target.party(auth_service_pb2.ROLE_SUBMITTER)
    job = target.submit(victim)
    theirs, nobodys = _asked(job.job_id, thief), _asked(NEVER, thief)
    for name, answer in theirs.items():
        if answer != nobodys[name]:
            raise Fell(f"{name}: {answer} for another's, {nobodys[name]} for one that never was")
    after = victim.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job.job_id), metadata=victim.me, timeout=SECONDS)
    if after.job != job:
        raise Fell("another's job has changed")
    listed = thief.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=1000), metadata=thief.me, timeout=SECONDS)
    if any(one.job_id == job.job_id for one in listed.jobs):
        raise Fell("another's job is in the list")
    return expect(set(theirs.values()), C.NOT_FOUND)


@attack("another tenant's job", "the same by an admin of another tenant")
def another_tenants_job(target: Target) -> str:
    victim = target.party(auth_service_pb2.ROLE_SUBMITTER)
    thief = target.party(auth_service_pb2.ROLE_ADMIN, tenant=f"attack-{secrets.token_hex(4)}")
    job = target.submit(victim)
    theirs, nobodys = _asked(job.job_id, thief), _asked(NEVER, thief)
    if theirs != nobodys:
        raise Fell(f"{theirs} differs from {nobodys}")
    return expect(set(theirs.values()), C.NOT_FOUND)


@attack("ids by timing", f"{LOOKS} looks each at another's job and at one that never was, in turns")
def ids_by_timing(target: Target) -> str:
    victim = target.party(auth_service_pb2.ROLE_SUBMITTER)
    thief = target.party(auth_service_pb2.ROLE_SUBMITTER)
    times: dict[str, list[float]] = {target.submit(victim).job_id: [], NEVER: []}
    for _ in range(LOOKS):
        for job_id, taken in times.items():
            begun = time.perf_counter()
            thief.code(thief.jobs.GetJob, job_service_pb2.GetJobRequest(job_id=job_id))
            taken.append((time.perf_counter() - begun) * 1000)
    theirs, nobodys = (statistics.median(taken) for taken in times.values())
    if not 1 / 3 < theirs / nobodys < 3:
        raise Fell(f"median {theirs:.2f} ms for another's, {nobodys:.2f} ms for one that never was")
    return f"medians {theirs:.2f} ms and {nobodys:.2f} ms"


def _escalations(by: Party) -> list[tuple[Any, Any]]:
    worker = "wkr_0000000000001"
    quota = admin_service_pb2.Quota(tenant="attack", max_queued=1)
    return [
        (by.auth.CreateToken, auth_service_pb2.CreateTokenRequest(name="x", role=auth_service_pb2.ROLE_ADMIN)),
        (by.auth.ListTokens, auth_service_pb2.ListTokensRequest()),
        (by.auth.RevokeToken, auth_service_pb2.RevokeTokenRequest(token_id="tok_0000000000001")),
        (by.fleet.DrainWorker, fleet_service_pb2.DrainWorkerRequest(worker_id=worker)),
        (by.fleet.RemoveWorker, fleet_service_pb2.RemoveWorkerRequest(worker_id=worker)),
        (by.queues.PauseQueue, queue_service_pb2.PauseQueueRequest(name="attack")),
        (by.admin.CleanupJobs, admin_service_pb2.CleanupJobsRequest(min_age=duration_pb2.Duration(seconds=10**9))),
        (by.admin.ListAuditEvents, admin_service_pb2.ListAuditEventsRequest()),
        (by.admin.SetQuota, admin_service_pb2.SetQuotaRequest(quota=quota)),
    ]


@attack("more than its role", "what admins may, by a submitter, a viewer and a worker; a job in another's name")
def more_than_its_role(target: Target) -> str:
    found = set()
    for role in (auth_service_pb2.ROLE_SUBMITTER, auth_service_pb2.ROLE_VIEWER, auth_service_pb2.ROLE_WORKER):
        by = target.party(role)
        found |= {by.code(method, request) for method, request in _escalations(by)}
        if role != auth_service_pb2.ROLE_SUBMITTER:
            job = job_pb2.Job(custom=job_pb2.CustomSpec(type="attack.nothing"))
            found.add(by.code(by.jobs.CreateJob, job_service_pb2.CreateJobRequest(job=job)))
    shown = expect(found, C.PERMISSION_DENIED)
    by = target.party(auth_service_pb2.ROLE_SUBMITTER)
    job = job_pb2.Job(custom=job_pb2.CustomSpec(type="attack.nothing"), user="somebody", tenant="else")
    made = target.submit(by, job)
    if made.user != by.user or made.tenant == "else":
        raise Fell(f"the job belongs to {made.tenant}/{made.user}")
    return shown


@attack("another's work", "a worker of another user asks for jobs, and reports on one")
def anothers_work(target: Target) -> str:
    victim = target.party(auth_service_pb2.ROLE_SUBMITTER)
    thief = target.party(auth_service_pb2.ROLE_WORKER)
    job = target.submit(victim)
    session = target.register(thief)
    lease = worker_service_pb2.LeaseJobsRequest(
        worker_id=session.worker_id,
        session_id=session.session_id,
        poll_id="1",
        max_jobs=10,
        wait_timeout=duration_pb2.Duration(seconds=1),
    )
    got = thief.workers.LeaseJobs(lease, metadata=thief.me, timeout=SECONDS).leases
    forged = worker_service_pb2.ReportJobsRequest(worker_id=session.worker_id, session_id=session.session_id)
    forged.reports.add(sequence=1, job_id=job.job_id, lease_token=secrets.token_hex(16)).failed.SetInParent()
    answers = thief.workers.ReportJobs(iter([forged]), metadata=thief.me, timeout=SECONDS)
    told = code_of(lambda: list(answers))
    leave = worker_service_pb2.DeregisterWorkerRequest(worker_id=session.worker_id, session_id=session.session_id)
    thief.workers.DeregisterWorker(leave, metadata=thief.me, timeout=SECONDS)
    after = victim.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job.job_id), metadata=victim.me, timeout=SECONDS)
    if got or after.job.state != job_pb2.JOB_STATE_QUEUED:
        raise Fell("it was given another's job" if got else "another's job has changed")
    return f"no job, and its report was dropped ({told[0].name})"


@attack("invitation", f"one invitation redeemed by {RACERS} at once, once more after, and used for other calls")
def invitation(target: Target) -> str:
    request = auth_service_pb2.CreateEnrollmentTokenRequest(name="attack")
    try:
        made = target.owner.auth.CreateEnrollmentToken(request, metadata=target.owner.me, timeout=SECONDS)
    except grpc.RpcError as error:
        failed: Any = error
        raise Skipped(f"this token may not invite ({failed.code().name})") from None
    target._made.append(made.token.token_id)
    invited = Party(target.channel, made.secret)
    listing = invited.code(invited.jobs.ListJobs, job_service_pb2.ListJobsRequest())

    def redeem(_: int) -> Any:
        try:
            enroll = auth_service_pb2.EnrollWorkerRequest(name="attack")
            return invited.auth.EnrollWorker(enroll, metadata=invited.me, timeout=SECONDS)
        except grpc.RpcError as error:
            refused: Any = error
            return refused.code()

    with ThreadPoolExecutor(RACERS) as threads:
        answers = list(threads.map(redeem, range(RACERS)))
    won = [answer for answer in answers if not isinstance(answer, grpc.StatusCode)]
    target._made.extend(one.token.token_id for one in won)
    again = redeem(0)
    if len(won) != 1 or again is not C.UNAUTHENTICATED:
        raise Fell(f"{len(won)} got a credential; once more: {again}")
    if won[0].token.role != auth_service_pb2.ROLE_WORKER:
        raise Fell(f"the credential has role {won[0].token.role}")
    return f"one credential, {expect({listing}, C.PERMISSION_DENIED)} for another call, UNAUTHENTICATED after"


@attack("revoked token", "a poll waits with a token that is revoked meanwhile; then another call")
def revoked_token(target: Target) -> str:
    by = target.party(auth_service_pb2.ROLE_WORKER)
    session = target.register(by)
    lease = worker_service_pb2.LeaseJobsRequest(
        worker_id=session.worker_id,
        session_id=session.session_id,
        poll_id="1",
        max_jobs=1,
        wait_timeout=duration_pb2.Duration(seconds=10),
    )
    waiting = by.workers.LeaseJobs.future(lease, metadata=by.me, timeout=SECONDS)
    # Its answer comes after the poll has: both go over one connection.
    by.code(by.auth.WhoAmI, auth_service_pb2.WhoAmIRequest())
    begun = time.monotonic()
    revoke = auth_service_pb2.RevokeTokenRequest(token_id=by.token_id)
    target.owner.auth.RevokeToken(revoke, metadata=target.owner.me, timeout=SECONDS)
    code, words = code_of(waiting.result)
    taken = time.monotonic() - begun
    after = by.code(by.auth.WhoAmI, auth_service_pb2.WhoAmIRequest())
    if taken > 5:
        raise Fell(f"the poll went on for {taken:.1f} s")
    return f"{expect({(code, words), after}, C.UNAUTHENTICATED)} after {taken:.2f} s"
