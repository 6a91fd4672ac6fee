"""At most one job of a user that is not final has a dedupe key, whatever comes together and from where."""

from __future__ import annotations

import pytest

from support.dedupe import REPLACE, RETURN, by, everything, final, new
from support.stage import ADA, BOB, Stage
from towpath_server.core.errors import DedupeConflict, InvalidArgument, RequestIdReused
from towpath_server.core.events import Succeeded
from towpath_server.core.ids import show
from towpath_server.core.job import ConflictPolicy, JobState
from towpath_server.scheduler.messages import Directive, DirectiveType, Report

S = JobState
POLICIES = pytest.mark.parametrize("policy", ConflictPolicy, ids=lambda policy: policy.name.lower())


async def test_a_second_job_is_refused_until_the_first_is_final(s: Stage) -> None:
    first = await s.submit(dedupe_key="k")
    with pytest.raises(DedupeConflict) as caught:
        await s.submit(dedupe_key="k")
    assert caught.value.facts == {"job_id": show("job", first.job_id), "dedupe_key": "k"}
    await s.submit(dedupe_key="other")
    await s.submit()
    await s.submit()
    await s.scheduler.jobs.cancel(ADA, first.job_id, "", False)
    assert (await s.submit(dedupe_key="k")).state is S.QUEUED


@POLICIES
async def test_another_user_s_key_is_another_key(s: Stage, policy: ConflictPolicy) -> None:
    ada = await s.submit(dedupe_key="k")
    bob = await s.submit(dedupe_key="k", who=BOB, on_conflict=policy)
    assert bob.job_id != ada.job_id
    assert await s.get(ada) == ada
    with pytest.raises(DedupeConflict, match=show("job", bob.job_id)):
        await s.submit(dedupe_key="k", who=BOB)


async def test_a_refused_batch_leaves_nothing(s: Stage) -> None:
    first = await s.submit(dedupe_key="k")
    held = await s.submit(dedupe_key="held")
    with pytest.raises(DedupeConflict):
        await s.scheduler.jobs.create(ADA, [new("free"), new("held", REPLACE), new("k"), new("")])
    assert await everything(s) == [first, held]


async def test_the_existing_job_is_returned_as_it_stands(s: Stage) -> None:
    first = await s.submit(dedupe_key="k", on_conflict=RETURN)
    await s.scheduler.jobs.pause(ADA, first.job_id)
    paused = await s.get(first)
    other, again = await s.scheduler.jobs.create(ADA, [new("other", RETURN), new("k", RETURN)])
    assert again == paused
    assert await everything(s) == [paused, other]


@pytest.mark.parametrize("state", ["queued", "scheduled", "paused", "cancelling"])
async def test_a_job_is_replaced_wherever_it_stands(s: Stage, state: str) -> None:
    later = s.hands.now + 1_000_000 if state == "scheduled" else None
    first = await s.submit(dedupe_key="k", schedule_time=later)
    if state == "paused":
        await s.scheduler.jobs.pause(ADA, first.job_id)
    if state == "cancelling":
        await s.lease(await s.worker())
        await s.scheduler.jobs.cancel(ADA, first.job_id, "", False)
    assert await s.state(first) is JobState[state.upper()]
    second = await s.submit(dedupe_key="k", on_conflict=REPLACE)
    old = await s.get(first)
    assert (old.state, old.state_reason, second.state) == (S.CANCELLED, by(second), S.QUEUED)
    assert old.sequence < second.sequence


async def test_a_running_job_is_killed_and_its_late_result_refused(s: Stage) -> None:
    worker = await s.worker()
    stream = s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)
    first = await s.submit(dedupe_key="k")
    (leased,) = await s.lease(worker)
    assert leased.lease is not None
    token = leased.lease.token
    second = await s.submit(dedupe_key="k", on_conflict=REPLACE)
    assert await stream.orders() == [Directive(DirectiveType.KILL, first.job_id, token, by(second))]
    await stream.report([Report(1, first.job_id, Succeeded(token, b"late"))])
    old = await s.get(first)
    assert (old.state, old.result, old.state_reason) == (S.CANCELLED, None, by(second))
    assert [(job.job_id, job.state) for job in await s.lease(worker)] == [(second.job_id, S.LEASED)]


async def test_watchers_hear_of_both(s: Stage) -> None:
    first = await s.submit(dedupe_key="k")
    watch = s.scheduler.jobs.watch(ADA, first.job_id, 0)
    assert (await anext(watch)).state is S.QUEUED
    second = await s.submit(dedupe_key="k", on_conflict=REPLACE)
    told = await anext(watch)
    assert (told.state, told.state_reason) == (S.CANCELLED, by(second))


@POLICIES
async def test_a_repeated_call_gives_the_job_that_it_made(s: Stage, policy: ConflictPolicy) -> None:
    first = await s.submit(dedupe_key="k", request_id="r", on_conflict=policy)
    assert await s.submit(dedupe_key="k", request_id="r", on_conflict=policy) == first
    second = await s.submit(dedupe_key="k", request_id="s", on_conflict=REPLACE)
    assert await s.submit(dedupe_key="k", request_id="r", on_conflict=policy) == await s.get(first)
    assert await s.get(second) == second
    await s.scheduler.jobs.cancel(ADA, second.job_id, "", False)
    assert (await s.submit(dedupe_key="k", request_id="r", on_conflict=policy)).job_id == first.job_id
    with pytest.raises(RequestIdReused):
        await s.submit("another", dedupe_key="k", request_id="r", on_conflict=policy)


async def test_one_batch_is_as_one_after_the_other(s: Stage) -> None:
    made, same = await s.scheduler.jobs.create(ADA, [new("a", RETURN), new("a", RETURN)])
    assert made == same
    one, two, three = await s.scheduler.jobs.create(ADA, [new("b", REPLACE) for _ in range(3)])
    assert [job.state for job in (one, two, three)] == [S.CANCELLED, S.CANCELLED, S.QUEUED]
    assert [job.state_reason for job in (one, two)] == [by(two), by(three)]
    assert await everything(s) == [made, one, two, three]
    again = new("c", request_id="r")
    assert len({job.job_id for job in await s.scheduler.jobs.create(ADA, [again, again])}) == 1


async def test_a_batch_that_contradicts_itself_is_refused(s: Stage) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await s.scheduler.jobs.create(ADA, [new("a"), new("b"), new("a"), new("a")])
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["requests[2].job.dedupe_key", "requests[3].job.dedupe_key"]
    assert await everything(s) == []


async def test_no_poll_gets_a_job_that_is_not_born(s: Stage) -> None:
    worker, other = await s.worker(), await s.worker()
    held = await s.submit(dedupe_key="k", job_type="unserved")
    poll, second = s.poll(worker), s.poll(other)
    await s.parked(2)
    assert await s.submit(dedupe_key="k", on_conflict=RETURN) == held
    with pytest.raises(DedupeConflict):
        await s.submit(dedupe_key="k")
    await s.parked(2)
    one, two, three = await s.scheduler.jobs.create(ADA, [new("r", REPLACE) for _ in range(3)])
    assert [job.state for job in (one, two)] == [S.CANCELLED] * 2
    assert [job.attempt for job in (one, two)] == [0, 0]
    await s.parked(1)
    last = await s.submit()
    got = [job.job_id for job in (*await poll, *await second)]
    assert sorted(got) == [three.job_id, last.job_id]


async def test_no_retry_while_another_has_the_key(s: Stage) -> None:
    old, new_one = await final(s), await s.submit(dedupe_key="k")
    with pytest.raises(DedupeConflict) as caught:
        await s.scheduler.jobs.retry(ADA, old.job_id)
    assert caught.value.facts["job_id"] == show("job", new_one.job_id)
    assert await s.get(old) == old
    await s.scheduler.jobs.cancel(ADA, new_one.job_id, "", False)
    assert (await s.scheduler.jobs.retry(ADA, old.job_id)).state is S.QUEUED
    with pytest.raises(DedupeConflict):
        await s.submit(dedupe_key="k")
