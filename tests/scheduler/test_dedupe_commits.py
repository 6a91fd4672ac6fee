"""Dedupe keys where several calls share one commit: as if they came one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.dedupe import REPLACE, RETURN, by, everything, final, job_of, kinds, new, states, together
from support.stage import ADA, Stage
from towpath_server.core.errors import DedupeConflict, InvalidArgument
from towpath_server.core.events import Cancel, Event, Retry
from towpath_server.core.ids import show
from towpath_server.core.job import ConflictPolicy, Job, JobState, Lease
from towpath_server.core.records import Lane
from towpath_server.scheduler.messages import NewJob
from towpath_server.scheduler.transactions.control import Command, command
from towpath_server.scheduler.transactions.create import Created, CreateItem, Draft, run
from towpath_server.store.base import Matching, Store
from towpath_server.store.memory import MemoryStore

S = JobState


async def test_a_poll_that_a_refused_job_took_gets_the_next_one(s: Stage) -> None:
    worker = await s.worker()
    await s.submit(dedupe_key="k", job_type="unserved")
    poll = s.poll(worker)
    await s.parked(1)
    refused, made = await together(s, s.submit(dedupe_key="k"), s.submit("while the poll was taken"))
    assert isinstance(refused, DedupeConflict)
    assert [job.job_id for job in await poll] == [job_of(made).job_id]


async def test_creates_of_one_commit_come_one_after_the_other(s: Stage) -> None:
    first, refused, same = await together(
        s,
        s.submit(dedupe_key="k"),
        s.submit(dedupe_key="k"),
        s.submit(dedupe_key="k", on_conflict=RETURN),
    )
    assert isinstance(refused, DedupeConflict)
    assert first == same
    assert refused.facts["job_id"] == show("job", job_of(first).job_id)
    assert await states(s) == [S.QUEUED]


async def test_replacements_of_one_commit_leave_the_last(s: Stage) -> None:
    worker = await s.worker(slots=4)
    stream = s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    first = await s.submit(dedupe_key="k")
    (leased,) = await s.lease(worker)
    poll = s.poll(worker, 3)
    await s.parked(1)
    calls = [s.submit(dedupe_key="k", on_conflict=REPLACE) for _ in range(2)]
    second, third = map(job_of, await together(s, *calls))
    assert [job.job_id for job in await poll] == [third.job_id]
    assert await states(s) == [S.CANCELLED, S.CANCELLED, S.LEASED]
    assert [(await s.get(job)).state_reason for job in (first, second)] == [by(second), by(third)]
    # The second was never given to anybody.
    assert [order.job_id for order in await stream.orders()] == [leased.job_id]


async def test_a_refused_call_leaves_its_keys_free(s: Stage) -> None:
    refused, made = await together(
        s,
        s.scheduler.jobs.create(ADA, [new("free"), new("twice"), new("twice")]),
        s.submit(dedupe_key="free"),
    )
    assert isinstance(refused, InvalidArgument)
    assert await everything(s) == [job_of(made)]


async def test_of_the_retries_in_one_commit_the_first_gets_the_key(s: Stage) -> None:
    olds = [await final(s) for _ in range(3)]
    outcomes = await together(s, *(s.scheduler.jobs.retry(ADA, old.job_id) for old in olds))
    assert kinds(outcomes) == ["Job", "DedupeConflict", "DedupeConflict"]
    assert await states(s) == [S.QUEUED, S.CANCELLED, S.CANCELLED]


async def test_a_key_goes_from_job_to_job_within_one_commit(s: Stage) -> None:
    old, holder = await final(s), await s.submit(dedupe_key="k")
    jobs = s.scheduler.jobs
    outcomes = await together(
        s,
        jobs.retry(ADA, old.job_id),
        jobs.cancel(ADA, holder.job_id, "", False),
        jobs.retry(ADA, old.job_id),
        jobs.retry(ADA, holder.job_id),
        s.submit(dedupe_key="k", on_conflict=REPLACE),
    )
    assert kinds(outcomes) == ["DedupeConflict", "Job", "Job", "DedupeConflict", "Job"]
    assert await states(s) == [S.CANCELLED, S.CANCELLED, S.QUEUED]


async def test_retries_of_one_job_do_not_collide_with_each_other(s: Stage) -> None:
    old = await final(s)
    outcomes = await together(s, *(s.scheduler.jobs.retry(ADA, old.job_id) for _ in range(2)))
    assert kinds(outcomes) == ["Job", "IllegalTransition"]


async def test_a_key_goes_from_job_to_job_within_one_write(s: Stage, store: Store) -> None:
    old, holder = await final(s), await s.submit(dedupe_key="k")
    # Not by the scheduler: where a write is refused, it undoes the commit and tries each command alone.
    events: list[tuple[Job, Event]] = [(old, Cancel()), (holder, Cancel()), (old, Retry(1))]
    with store.transaction():
        command(store, 1, [Command(ADA, job.job_id, always(event)) for job, event in events])
    assert await states(s) == [S.QUEUED, S.CANCELLED]


async def test_many_at_once_leave_one(s: Stage) -> None:
    calls = [s.submit(str(number), dedupe_key="k", on_conflict=p) for number in range(8) for p in ConflictPolicy]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert set(kinds(outcomes)) <= {"Job", "DedupeConflict"}
    assert sum(not state.is_final for state in await states(s)) == 1


ASKED = st.builds(
    new,
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(ConflictPolicy),
    request_id=st.sampled_from(["", "", "r", "s"]),
)
CALLS = st.lists(st.lists(ASKED, min_size=1, max_size=4), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=CALLS, ended=st.sets(st.integers(1, 10)), second=CALLS)
def test_calls_in_one_commit_do_what_they_do_in_many(
    store: Store, first: list[list[NewJob]], ended: set[int], second: list[list[NewJob]]
) -> None:
    with store.transaction():
        store.delete([job_id for job_id, *_ in stored(store)])
    apart = MemoryStore()
    ids = count(1)
    answers: dict[bool, list[object]] = {True: [], False: []}
    for calls in (first, second):
        items = [item(call, ids) for call in calls]
        answers[True] += create(store, items)
        for one in items:
            answers[False] += create(apart, [one])
        for each in (store, apart):
            with each.transaction():
                stop = [Command(ADA, job_id, lambda job: Cancel("ended", force=True)) for job_id in sorted(ended)]
                command(each, 1, stop)
    assert answers[True] == answers[False]
    assert stored(store) == stored(apart)


def always(event: Event) -> Callable[[Job], Event]:
    return lambda job: event


def item(asked: Sequence[NewJob], ids: Iterator[int]) -> CreateItem:
    drafts = [
        Draft(
            next(ids),
            replace(one.definition, tenant=ADA.tenant, user=ADA.user),
            1,
            one.priority,
            one.on_conflict,
            Lease("token", 1, "session") if number % 2 else None,
        )
        for number, one in enumerate(asked)
    ]
    return CreateItem(
        tuple(drafts), (Lane(lane_id=1, tenant=ADA.tenant, user=ADA.user, queue="default", job_type="echo"),)
    )


def create(store: Store, items: Sequence[CreateItem]) -> list[object]:
    """The ids of the jobs that each call was answered with, or why it was refused; each change is told once."""
    with store.transaction():
        outcomes = run(store, 1, items)
    changes = [change for outcome in outcomes if isinstance(outcome, Created) for change in outcome.changes]
    told = {change.after.job_id: change.after for change in changes if change.after is not None}
    assert len(told) == len(changes)
    assert told == store.load(list(told))
    return [[job.job_id for job in one.jobs] if isinstance(one, Created) else repr(one) for one in outcomes]


def stored(store: Store) -> list[tuple[int, JobState, str]]:
    jobs = store.find(Matching(tenant=ADA.tenant, ascending=True), 1000)
    assert all(job.lease is None for job in jobs if job.state.is_final)
    return [(job.job_id, job.state, job.state_reason) for job in jobs]
