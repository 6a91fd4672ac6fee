"""Writes a store with something of everything: `python tests/data/make_store.py PATH`.

One is kept for each release, as that release wrote it. All values here are spelt out, none comes from the rules, which
may change. What a later schema adds is not changed in `FIRST` but added by a step in `SINCE`, so that
`contents(1)` stays what store-0001.sqlite holds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from towpath_server.core.job import (
    DAY,
    SECOND,
    Attempt,
    AttemptOutcome,
    Definition,
    Failure,
    FailureCause,
    Job,
    JobState,
    Lease,
    Priority,
    Progress,
    Requirements,
    RetryPolicy,
    Timeouts,
)
from towpath_server.core.records import (
    AuditEvent,
    Gpu,
    Lane,
    LogChunk,
    Machine,
    ModelRecord,
    Queue,
    Quota,
    Replica,
    Role,
    Share,
    Token,
    Worker,
)
from towpath_server.store.base import Record
from towpath_server.store.sqlite import SqliteStore
from towpath_server.store.sqlite.schema import migrations

NOW = 1_799_999_000 * SECOND
S = JobState


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a store holds."""

    lanes: tuple[Lane, ...]
    jobs: tuple[Job, ...]
    attempts: tuple[Attempt, ...]
    logs: tuple[LogChunk, ...]
    records: tuple[Record, ...]
    audit: tuple[AuditEvent, ...] = ()


def number(small: int) -> int:
    """An id of the moment NOW."""
    return NOW // 1000 << 21 | small


WORKER, MODEL, BUSY = number(101), number(201), number(102)
WANTED = Requirements(2, 512, 1, 2048, (("disk", "fast"), ("zone", "räum")), WORKER, MODEL)

LANES = (
    Lane(lane_id=number(1), tenant="acme", user="ada", queue="default", job_type="echo"),
    Lane(
        lane_id=number(2),
        tenant="acme",
        user="ada",
        queue="night",
        job_type="train",
        requirements=WANTED,
        concurrency_key="one at a time",
    ),
    Lane(lane_id=number(3), tenant="acme", user="bob", queue="held", job_type="echo"),
    Lane(lane_id=number(4), tenant="evil", user="eve", queue="default", job_type="echo"),
)
POLICIES: Mapping[str, Any] = {
    "timeouts": Timeouts(2 * DAY, 600 * SECOND, 60 * SECOND, 3 * DAY, 5 * SECOND, 30 * DAY),
    "retry": RetryPolicy(3, 2 * SECOND, 3.5, 90 * SECOND, 0.25, ("KeyError", "OSError"), True),
    "max_lost": 5,
    "labels": {"team": "räder", "quote": "\"'\\"},
    # {"note": "x"} as a google.protobuf.Struct.
    "annotations": b"\n\t\n\x04note\x12\x03\x1a\x01x",
    "workspace": "nightly",
}
CRASH = Failure(FailureCause.HANDLER, "ValueError", "böse\x00 \ud800", "Traceback ...", retryable=True)
LATE = Failure(FailureCause.TIMEOUT, "execution_timeout", "execution_timeout of 600 s is over")
GONE = Failure(FailureCause.WORKER_LOST, "WorkerLost", "the worker was lost, 1 times in all; max_lost is 0", "", False)
DEAD = Failure(FailureCause.PROCESS_DIED, "SIGSEGV", "the process died")
WRONG = Failure(FailureCause.INVALID_INPUT, "NoSuchColumn", "y")
HALF = Progress(50.5, "fit", "halfway", {"loss": 0.25, "rate": 1e-300}, 30 * SECOND, NOW + 9 * SECOND)
# What rpc keeps of a custom job `echo`: of 1, and of 10,000 letters; and the result "done".
SMALL = b"j\x1c\n\x04echo\x12\x14\n\x12\n\x05value\x12\t\x11\x00\x00\x00\x00\x00\x00\xf0?"
LARGE = b"j\xa9N\n\x04echo\x12\xa0N\n\x9dN\n\x05value\x12\x93N\x1a\x90N" + b"x" * 10_000
DONE, MUCH = b'"\x08\n\x06\x1a\x04done', b'"\x96N\n\x93N\x1a\x90N' + b"x" * 10_000


def job(small: int, state: JobState, lane: int = 0, **changes: Any) -> Job:
    """The job with this number, in a lane."""
    home = LANES[lane]
    asked = {name: changes.pop(name) for name in list(changes) if name in Definition.__dataclass_fields__}
    definition = Definition(
        tenant=home.tenant,
        user=home.user,
        job_type=home.job_type,
        queue=home.queue,
        requirements=home.requirements,
        concurrency_key=home.concurrency_key,
        create_time=NOW + small,
        **{"spec": SMALL, "request_id": f"request {small}", "request_hash": bytes([small] * 32), **asked},
    )
    plain = Job(
        job_id=number(small),
        definition=definition,
        lane_id=home.lane_id,
        priority=Priority.NORMAL,
        position=number(small),
        state=state,
        update_time=NOW + small,
        queue_time=NOW + small,
    )
    return replace(plain, **changes)


def held(small: int, state: JobState, *, confirmed: bool = True, **changes: Any) -> Job:
    """A job that the busy worker holds."""
    token = f"token-{small}"
    lease = Lease(token, BUSY, "ses_busy", confirmed)
    times = {"lease_time": NOW + 5 * SECOND, "due_time": NOW + DAY}
    return job(
        small, state, **{"lease": lease, "last_token": token, "worker_id": BUSY, "attempt": 1, **times, **changes}
    )


def ended(small: int, state: JobState, *, ran: bool = True, **changes: Any) -> Job:
    """A job that is final."""
    times: dict[str, Any] = {"end_time": NOW + 20 * SECOND, "due_time": NOW + 8 * DAY, "revision": 4}
    if ran:
        times |= {"lease_time": NOW + 5 * SECOND, "start_time": NOW + 6 * SECOND, "attempt": 1, "attempt_count": 1}
        times |= {"worker_id": WORKER, "last_token": f"token-{small}"}
    return job(small, state, **{**times, **changes})


JOBS = (
    job(11, S.SCHEDULED, schedule_time=NOW + DAY, queue_time=NOW + DAY, due_time=NOW + DAY),
    job(
        12,
        S.SCHEDULED,
        **POLICIES,
        state_reason="attempt 1 of 3 failed",
        queue_time=NOW + 7 * SECOND,
        due_time=NOW + 7 * SECOND,
        attempt=1,
        attempt_count=1,
        failure=CRASH,
        worker_id=WORKER,
        revision=5,
    ),
    job(13, S.QUEUED, request_id="", request_hash=b"", priority=Priority.LOW),
    job(14, S.QUEUED, 1, **POLICIES, priority=Priority.CRITICAL, due_time=NOW + 2 * DAY),
    job(
        15,
        S.QUEUED,
        state_reason="the worker was lost",
        attempt=2,
        lost_count=2,
        worker_id=WORKER,
        last_token="token-15",
        lease_time=NOW + 5 * SECOND,
        revision=9,
        priority=Priority.HIGH,
    ),
    job(16, S.QUEUED, 2),
    job(17, S.QUEUED, 3, spec=LARGE),
    job(18, S.QUEUED, state_reason="retried", position=number(900), attempt=6, revision=20, worker_id=WORKER),
    held(21, S.LEASED, confirmed=False, due_time=NOW + 15 * SECOND),
    held(22, S.LEASED),
    held(23, S.RUNNING, start_time=NOW + 6 * SECOND, stall_time=NOW + 9 * SECOND, progress=HALF, attempt=2, **POLICIES),
    held(
        24,
        S.CANCELLING,
        state_reason="no need",
        start_time=NOW + 6 * SECOND,
        stall_time=NOW + 6 * SECOND,
        kill_time=NOW + 35 * SECOND,
        due_time=NOW + 35 * SECOND,
    ),
    job(31, S.PAUSED, state_reason="paused"),
    job(32, S.PAUSED, state_reason="paused", schedule_time=NOW + 2 * DAY, queue_time=NOW + 2 * DAY),
    ended(41, S.SUCCEEDED, result=DONE, progress=HALF),
    ended(42, S.SUCCEEDED, result=MUCH),
    ended(43, S.FAILED, state_reason="boom", failure=CRASH),
    ended(44, S.FAILED, state_reason=GONE.message, failure=GONE, attempt_count=0, lost_count=1, max_lost=0),
    ended(45, S.FAILED, state_reason="y", failure=WRONG),
    ended(46, S.FAILED, state_reason="the process died", failure=DEAD),
    ended(47, S.CANCELLED, state_reason="cancelled"),
    ended(48, S.CANCELLED, ran=False, state_reason="cancelled"),
    ended(49, S.TIMED_OUT, state_reason=LATE.message, failure=LATE, **POLICIES),
    ended(50, S.TIMED_OUT, ran=False, failure=replace(LATE, type="queue_timeout"), queue_time=None),
)
ATTEMPTS = (
    Attempt(number(12), 1, WORKER, NOW, NOW + 1, NOW + 2, AttemptOutcome.FAILED, CRASH),
    Attempt(number(15), 1, BUSY, NOW, None, NOW + 2, AttemptOutcome.LOST),
    Attempt(number(15), 2, WORKER, NOW, NOW + 1, NOW + 2, AttemptOutcome.LOST),
    *(
        Attempt(number(18), outcome, WORKER, NOW, NOW + 1, NOW + outcome, outcome, CRASH if outcome == 2 else None)
        for outcome in AttemptOutcome
    ),
    Attempt(number(23), 1, WORKER, NOW, NOW + 1, NOW + 2, AttemptOutcome.TIMED_OUT, LATE),
)
LOGS = (
    LogChunk(job_id=number(23), attempt=1, offset=0, text="first\n", stream=1, time=NOW),
    LogChunk(job_id=number(23), attempt=2, offset=0, text="zweite Größe\n", stream=2, time=NOW + 1),
    LogChunk(job_id=number(23), attempt=2, offset=15, text="\x1b[1mbold\n", stream=3, time=NOW + 2),
    LogChunk(job_id=number(43), attempt=1, offset=0, text="boom\n", stream=2, time=NOW),
)
# The hash is of the secret `tow_made_up`, which is worth nothing anywhere else.
HASH = "6497a7c87390aaa24bdf52591e6fe875813bfc8b42f89ae4e63fce7610fcf927"
BOX = Worker(
    worker_id=WORKER,
    name="box",
    tenant="acme",
    user="ada",
    slots=4,
    job_types=("echo", "train"),
    labels={"disk": "fast", "zone": "räum"},
    machine=Machine(
        cpu_count=8,
        memory_mb=16_000,
        gpus=(Gpu("A", 4096), Gpu("B", 8192)),
        hostname="box",
        platform="linux",
        python_version="3.11",
    ),
    version="0.1.0",
    create_time=NOW,
    connect_time=NOW,
)
DELAYS = ModelRecord(
    model_id=MODEL,
    worker_id=WORKER,
    tenant="acme",
    user="ada",
    name="delays",
    version=3,
    model_type="xgboost",
    task_type=2,
    create_time=NOW,
    # A towpath.v1.Model with a name.
    body=b"\x12\x06delays",
)
RECORDS: tuple[Record, ...] = (
    Token(
        token_id=1, secret_hash=HASH, name="first admin", tenant="acme", user="ada", role=Role.ADMIN, create_time=NOW
    ),
    Token(
        token_id=2,
        secret_hash="0" * 64,
        name="räder",
        tenant="acme",
        user="bob",
        role=Role.SUBMITTER,
        create_time=NOW,
        expire_time=NOW + DAY,
        revoke_time=NOW + 1,
    ),
    Token(token_id=3, secret_hash="1" * 64, name="", tenant="evil", user="eve", role=Role.WORKER, create_time=NOW),
    Queue(tenant="acme", name="default", create_time=NOW),
    Queue(tenant="acme", name="held", create_time=NOW, paused=True),
    Queue(tenant="acme", name="night", create_time=NOW),
    Queue(tenant="evil", name="default", create_time=NOW),
    BOX,
    Worker(
        worker_id=BUSY,
        name="busy",
        tenant="acme",
        user="ada",
        slots=4,
        job_types=("echo",),
        create_time=NOW,
        connect_time=NOW,
        session_id="ses_busy",
        draining=True,
    ),
    DELAYS,
)

FIRST = Contents(LANES, JOBS, ATTEMPTS, LOGS, RECORDS)


def _numbered_and_unique(before: Contents) -> Contents:
    """Schema 2: every change has a number, and a job may have a key of its own while it is not final."""
    keyed = {number(16): "the one", number(41): "the one", number(23): "räder"}
    return replace(
        before,
        jobs=tuple(
            replace(
                one,
                sequence=place,
                definition=replace(one.definition, dedupe_key=keyed.get(one.job_id, "")),
            )
            for place, one in enumerate(before.jobs, NOW)
        ),
    )


# What each later schema adds. A release's entry stays as it is.
def _replicas(held: Contents) -> Contents:
    """A scheduler among several, and a worker whose session lives on it."""
    replica = Replica(replica_id=3, life="a1b2", beat=41, start_time=NOW, view="{}")
    records = tuple(
        replace(one, replica_id=3) if isinstance(one, Worker) and one.session_id else one for one in held.records
    )
    return replace(held, records=(*records, replica))


def _security(held: Contents) -> Contents:
    """A credential whose secret was changed, an invitation, a shared worker, quotas, and what somebody did."""
    changed = Token(
        token_id=4,
        secret_hash="2" * 64,
        name="rack",
        tenant="acme",
        user="ada",
        role=Role.WORKER,
        create_time=NOW,
        expire_time=NOW + DAY,
        share=Share.TENANT,
        lifetime=90 * DAY,
        previous_hash="3" * 64,
        previous_expire_time=NOW + SECOND,
    )
    invited = replace(changed, token_id=5, secret_hash="4" * 64, role=Role.ENROLLMENT, previous_hash="")
    quotas = (Quota(max_queued=9), Quota(tenant="acme", user="räder", max_running=0, max_log_bytes=1 << 40))
    records = tuple(
        replace(one, share=Share.TENANT, token_id=4) if isinstance(one, Worker) and one.worker_id == WORKER else one
        for one in held.records
    )
    named = AuditEvent(
        event_id=number(301),
        time=NOW,
        action="token.rotated",
        tenant="acme",
        user="räder",
        token_id=4,
        origin="[::1]:50051",
        subject="tok_4",
        details={"name": "a\x00b\n\x1b[1m\u202e\ud800", "role": "worker"},
    )
    refused = AuditEvent(event_id=number(302), time=NOW + 1, action="login.refused", tenant="", user="")
    return replace(held, records=(*records, changed, invited, *quotas), audit=(named, refused))


SINCE: Mapping[int, Callable[[Contents], Contents]] = {2: _numbered_and_unique, 3: _replicas, 4: _security}


def contents(schema: int) -> Contents:
    """What the file of this schema holds."""
    held = FIRST
    for version in sorted(SINCE):
        if version <= schema:
            held = SINCE[version](held)
    return held


def write(path: Path) -> None:
    """Writes a file of the current schema."""
    held = contents(migrations()[-1].version)
    store = SqliteStore(path)
    with store.transaction():
        store.add_lanes(held.lanes)
        store.insert(held.jobs)
        # A save with nothing new but attempts would be a change: they come along with no job at all.
        store.save([], held.attempts)
        store.append_logs(held.logs)
        store.put(held.records)
        store.append_audit(held.audit)
    store.close()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if target.exists():
        sys.exit(f"{target} is there already. A release's file is written once.")
    write(target)
