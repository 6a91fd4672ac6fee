"""Jobs, lanes and records to try stores with: ordinary ones, and values that break what is not careful."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from support.store_samples import NOW, lane
from towpath_server.core.job import (
    Attempt,
    AttemptOutcome,
    Failure,
    FailureCause,
    JobState,
    Priority,
    Progress,
    Requirements,
    RetryPolicy,
    Timeouts,
)
from towpath_server.core.records import Gpu, LogChunk, Machine, ModelRecord, Queue, Role, Token, Worker
from towpath_server.store.base import ByDedupe, ByRequest, Due, HeldBy, InLane, Matching, OwnedBy, Query, Record

HUGE = 2**63 - 1


class LongText(str):
    """A text that is not written out in a script of steps."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"LongText({self[:1]!r} * {len(self)})"


class LongBytes(bytes):
    """Bytes that are not written out in a script of steps."""

    def __repr__(self) -> str:
        return f"LongBytes(bytes(range(256)) * {len(self) // 256})"


TEXTS = (
    *("", "a", "A", "ü", "u\u0308", "🙂", "%_", 'it\'s "so"', "a\\b", "null", "0", " ", "[1,2]", "\u202e", "\x7f\n"),
    LongText("z" * 9000),
)
BLOBS = (b"", b"\x00", b"\x00\xff'", LongBytes(bytes(range(256)) * 33))
SESSIONS = ("session", "", "s'2")

texts = st.sampled_from(TEXTS)
blobs = st.sampled_from(BLOBS)
numbers = st.sampled_from((0, 1, -1, 2**31, 2**53 + 1, HUGE, -HUGE))
JOB_IDS = (1, 2, 3, 2**53 + 1, HUGE)
job_ids = st.sampled_from(JOB_IDS)
limits = st.sampled_from((1000, 1000, 1, 2, 0))
soon = st.integers(NOW, NOW + 4)
states = st.sampled_from((*JobState, JobState.QUEUED, JobState.QUEUED, JobState.QUEUED))
few_states = st.lists(states, max_size=3).map(tuple)

TENANTS, USERS, QUEUES, TYPES = ("acme", "ä'%"), ("ann", ""), ("default", "Ω"), ("train", "p_")
KEYS = ("k", "K", 'it\'s "so"', "🙂", "")
tenants, users, queues, job_types = map(st.sampled_from, (TENANTS, USERS, QUEUES, TYPES))
keys = st.sampled_from(KEYS)

LABELS = (("zone", "ü"), ("", ""), ('q"', "it's"))
labels = st.sets(st.sampled_from(LABELS)).map(dict)
requirements = st.sampled_from(
    (Requirements(), Requirements(1, 2, 3, 4, LABELS, HUGE, 6), Requirements(worker_labels=LABELS[:1]))
)

LANES = (
    lane(1),
    lane(2, user=""),
    lane(3, tenant="ä'%", queue="Ω"),
    lane(4, job_type="p_", queue="Ω"),
    lane(5, requirements=Requirements(1, 2, 3, 4, LABELS, HUGE, 6)),
    lane(HUGE, concurrency_key="🙂"),
)
lanes = st.sampled_from(LANES)
# The same attributes under another id, and an id with other attributes.
wrong_lanes = st.builds(lane, st.sampled_from((1, 2, 9)), user=users, queue=queues)

progress = st.builds(
    Progress,
    st.sampled_from((None, 0.1, 100.0, 1e-300)),
    texts,
    texts,
    st.dictionaries(texts, st.sampled_from((0.1, float("inf"), -0.0)), max_size=2),
    st.none() | numbers,
    numbers,
)
failures = st.builds(Failure, st.sampled_from(FailureCause), texts, texts, texts, st.booleans())
asked = {
    "labels": labels,
    "annotations": blobs,
    "spec": blobs,
    "workspace": texts,
    "request_hash": blobs,
    "timeouts": st.builds(Timeouts, st.none() | numbers, numbers),
    "retry": st.builds(RetryPolicy, numbers, non_retryable_types=st.lists(texts, max_size=2).map(tuple)),
    "max_lost": numbers,
    "schedule_time": st.none() | numbers,
}
moved = {
    "state_reason": texts,
    "priority": st.sampled_from(Priority),
    "queue_time": st.none() | soon | numbers,
    "due_time": st.none() | soon,
    "progress": st.none() | progress,
    "failure": st.none() | failures,
    "attempt_count": st.sampled_from((0, 1, HUGE)),
    "kill_time": st.none() | numbers,
    "stall_time": st.none() | numbers,
}
# Some fields of a job that differ from the sample's.
changes = st.fixed_dictionaries({}, optional={**moved, "labels": labels, "spec": blobs})
births = st.fixed_dictionaries({}, optional={**moved, **asked, "request_id": keys, "dedupe_key": keys})

Birth = tuple[int, JobState, Any, dict[str, Any]]
newborns = st.lists(
    st.tuples(job_ids, states, st.sampled_from((*LANES, LANES[0], LANES[0])), births), min_size=1, max_size=5
)

matchings = st.builds(
    Matching,
    tenant=tenants,
    user=st.none() | users,
    states=few_states,
    queue=st.none() | queues,
    job_type=st.none() | job_types,
    workspace=st.none() | texts,
    labels=st.just({}) | labels,
    worker_id=st.none() | st.sampled_from((77, HUGE)),
    ended_before=st.none() | st.integers(NOW, NOW + 6_000_000),
    ascending=st.booleans(),
    after=st.none() | st.integers(0, 7) | job_ids,
)
in_dispatch_order = st.builds(
    Matching,
    tenant=tenants,
    queue=st.none() | queues,
    user=st.none() | users,
    states=few_states | st.just((JobState.QUEUED,)),
    dispatch_order=st.just(True),
    after=st.none() | st.integers(0, 4),
)
queries = st.one_of(
    matchings,
    in_dispatch_order,
    st.builds(Matching, tenant=tenants, changed_after=st.integers(NOW - 1, NOW + 40), states=few_states),
    st.builds(ByRequest, tenants, users, st.lists(keys, max_size=3).map(tuple)),
    st.builds(ByDedupe, tenants, users, st.lists(keys, max_size=3).map(tuple)),
    lanes.map(lambda one: InLane(one.lane_id)),
    st.builds(Due, soon, st.booleans()),
    st.builds(HeldBy, st.sampled_from(SESSIONS)),
    st.builds(OwnedBy, st.lists(job_ids, max_size=3).map(tuple), tenants, st.none() | users),
)
counted = matchings.map(lambda one: Matching(tenant=one.tenant, user=one.user, states=one.states, labels=one.labels))

attempts = st.builds(
    Attempt,
    job_ids,
    st.integers(1, 3),
    numbers,
    numbers,
    st.none() | numbers,
    st.none() | numbers,
    st.none() | st.sampled_from(AttemptOutcome),
    st.none() | failures,
)
# Pieces of one attempt do not overlap.
chunks = st.builds(
    lambda job_id, attempt, place, text: LogChunk(
        job_id=job_id, attempt=attempt, offset=place * 100, text=text[:25], stream=1, time=NOW
    ),
    job_ids,
    st.integers(1, 2),
    st.integers(0, 4),
    texts,
)

_keys = st.sampled_from((0, 1, HUGE))
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(
        Token,
        token_id=_keys,
        secret_hash=texts,
        name=texts,
        tenant=tenants,
        user=users,
        role=st.sampled_from(Role),
        create_time=numbers,
        expire_time=st.none() | numbers,
        revoke_time=st.none() | numbers,
    ),
    st.builds(Queue, tenant=tenants, name=queues, create_time=numbers, paused=st.booleans()),
    st.builds(
        Worker,
        worker_id=_keys,
        name=texts,
        tenant=tenants,
        user=users,
        slots=st.integers(0, HUGE),
        job_types=st.lists(texts, max_size=2).map(tuple),
        labels=labels,
        machine=st.builds(
            Machine,
            cpu_count=numbers,
            hostname=texts,
            gpus=st.lists(st.builds(Gpu, texts, numbers), max_size=2).map(tuple),
        ),
        create_time=numbers,
        connect_time=numbers,
        session_id=texts,
        draining=st.booleans(),
    ),
    st.builds(
        ModelRecord,
        model_id=_keys,
        worker_id=_keys,
        tenant=tenants,
        user=users,
        name=texts,
        version=numbers,
        model_type=texts,
        task_type=numbers,
        create_time=numbers,
        body=blobs,
    ),
)

# Asked after every step.
ALWAYS: tuple[Query, ...] = (
    *(InLane(one.lane_id) for one in LANES),
    *(HeldBy(session_id) for session_id in SESSIONS),
    *(question(tenant, user, KEYS) for question in (ByRequest, ByDedupe) for tenant in TENANTS for user in USERS),
    Due(NOW + 2),
    Due(HUGE),
    Due(HUGE, final=True),
    *(Matching(tenant=tenant, ascending=ascending) for tenant in TENANTS for ascending in (True, False)),
    *(Matching(tenant=tenant, dispatch_order=True) for tenant in TENANTS),
    Matching(tenant="acme", states=(JobState.QUEUED,), dispatch_order=True),
    Matching(tenant="acme", changed_after=NOW + 3),
    Matching(tenant="acme", states=(JobState.LEASED, JobState.RUNNING)),
    Matching(tenant="acme", user="ann", queue="default"),
)
