"""What becomes of jobs when workers come, go, sleep and are mistaken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support import shared_stage
from support.stage import ADA, BOB, EVE, INTERVALS, Hands, Stage, stage
from towpath_server.core.errors import SessionUnknown, TooBusy
from towpath_server.core.events import Failed, Progressed, Released, Started, Succeeded
from towpath_server.core.job import (
    SECOND,
    AttemptOutcome,
    Failure,
    FailureCause,
    Job,
    JobState,
    Progress,
    RetryPolicy,
    Timeouts,
)
from towpath_server.core.records import Machine
from towpath_server.scheduler import newcomers
from towpath_server.scheduler.connection import Connection
from towpath_server.scheduler.messages import (
    Directive,
    DirectiveType,
    Heartbeat,
    HeldLease,
    JobFilter,
    Logged,
    Registered,
    Registration,
    Report,
    WorkerState,
)
from towpath_server.store.sqlite import SqliteStore


def connect(s: Stage, worker: Registered) -> Connection:
    return s.scheduler.workers.connect(ADA, worker.worker_id, worker.session_id)


def token(job: Job) -> str:
    assert job.lease is not None
    return job.lease.token


def held(*jobs: Job) -> Heartbeat:
    return Heartbeat(tuple(HeldLease(job.job_id, token(job)) for job in jobs))


async def running(s: Stage, worker: Registered, **options: object) -> tuple[Job, Connection]:
    await s.submit(**options)  # type: ignore[arg-type]
    (job,) = await s.lease(worker)
    stream = connect(s, worker)
    assert await stream.report([Report(1, job.job_id, Started(token(job)))]) == 1
    return job, stream


async def again(s: Stage, worker: Registered, *jobs: Job) -> Registered:
    asked = Registration(
        worker_id=worker.worker_id,
        name="box",
        slots=1,
        job_types=("echo",),
        machine=Machine(cpu_count=2),
        held=tuple(HeldLease(job.job_id, token(job)) for job in jobs),
    )
    return await s.scheduler.workers.register(ADA, asked)


async def orders(stream: Connection) -> list[Directive]:
    return await stream.orders()


async def test_reports_are_taken_in_order_and_a_repeated_result_is_acked() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker())
        progress = Report(2, job.job_id, Progressed(token(job), Progress(percent=50.0)))
        done = Report(3, job.job_id, Succeeded(token(job), b"result"))
        assert await stream.report([progress, done]) == 3
        final = await s.get(job)
        assert (final.state, final.result, final.attempt_count) == (JobState.SUCCEEDED, b"result", 1)
        assert await stream.report([done]) == 3
        assert await s.get(job) == final


async def test_a_stale_lease_changes_nothing_and_is_told_to_abandon() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker())
        await stream.report([Report(2, job.job_id, Succeeded("not-the-token", b"forged"))])
        assert await s.state(job) is JobState.RUNNING
        assert await orders(stream) == [
            Directive(DirectiveType.ABANDON, job.job_id, "not-the-token", "the lease is over")
        ]


async def test_a_lease_is_of_no_use_to_another_worker_that_got_hold_of_it() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker())
        thief = connect(s, await s.worker())
        progressed = Report(1, job.job_id, Progressed(token(job), Progress(99.0)))
        logged = Report(2, job.job_id, Logged(token(job), 0, "forged", 1, 0))
        await thief.report([progressed, logged, Report(3, job.job_id, Succeeded(token(job), b"forged"))])
        kept = await s.get(job)
        assert (kept.state, kept.progress, kept.result) == (JobState.RUNNING, None, None)
        assert [order.type for order in thief.with_verdicts([], 3)] == [DirectiveType.ABANDON]
        assert await stream.report([Report(2, job.job_id, Succeeded(token(job), b"earned"))]) == 2
        assert (await s.get(job)).result == b"earned"


async def test_with_its_ack_an_outcome_that_counts_is_not_abandoned_whatever_was_said_meanwhile() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker())
        lease = Directive(DirectiveType.ABANDON, job.job_id, token(job), "the lease is over")
        forged = replace(lease, token="not-the-token")
        for sequence in (1, 2):
            await stream.report([Report(sequence, job.job_id, Succeeded(token(job), b"x"))])
            stream.heartbeat(held(job))
            assert stream.with_verdicts([lease, forged], sequence - 1) == [lease, forged]
            assert stream.with_verdicts([lease, forged], sequence) == [forged]
        await stream.report([Report(3, job.job_id, Succeeded("not-the-token", b"y"))])
        assert stream.with_verdicts([forged], 3) == [forged]


async def test_a_silent_worker_loses_its_jobs_after_one_lease_and_no_sooner() -> None:
    async with stage() as s:
        job, _ = await running(s, await s.worker())
        await s.tick(INTERVALS.lease_ttl / SECOND - 1)
        assert await s.state(job) is JobState.RUNNING
        await s.tick(1)
        lost = await s.get(job)
        assert (lost.state, lost.lost_count, lost.attempt_count) == (JobState.QUEUED, 1, 0)


async def test_heartbeats_keep_a_job_for_ever() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker(), timeouts=Timeouts(execution=1000 * SECOND))
        for _ in range(100):
            stream.heartbeat(held(job))
            await s.tick(5)
        assert await s.state(job) is JobState.RUNNING


async def test_past_max_lost_the_job_fails_with_the_reason() -> None:
    async with stage() as s:
        await s.submit(max_lost=1)
        for _ in range(2):
            worker = await s.worker()
            (job,) = await s.lease(worker)
            await connect(s, worker).report([Report(1, job.job_id, Started(token(job)))])
            await s.tick(16)
        dead = await s.get(job)
        assert dead.state is JobState.FAILED
        assert dead.failure is not None
        assert dead.failure.cause is FailureCause.WORKER_LOST


async def test_a_late_result_counts_while_nobody_leased_the_job_since() -> None:
    async with stage() as s:
        worker = await s.worker()
        job, _ = await running(s, worker)
        await s.tick(16)
        session = await again(s, worker, job)
        await connect(s, session).report([Report(1, job.job_id, Succeeded(token(job), b"late"))])
        assert (await s.get(job)).result == b"late"


async def test_a_late_result_is_refused_once_somebody_else_has_the_job() -> None:
    async with stage() as s:
        worker, other = await s.worker(), await s.worker()
        job, _ = await running(s, worker)
        connect(s, other)
        await s.tick(14)
        connect(s, other).heartbeat(held())
        await s.tick(2)
        (second,) = await s.lease(other)
        session = await again(s, worker, job)
        stream = connect(s, session)
        assert await orders(stream) == [Directive(DirectiveType.ABANDON, job.job_id, token(job), "the lease is over")]
        await stream.report([Report(1, job.job_id, Succeeded(token(job), b"late"))])
        await connect(s, other).report([Report(1, job.job_id, Succeeded(token(second), b"right"))])
        assert (await s.get(job)).result == b"right"


async def test_a_sleeper_goes_on_with_its_job_and_is_not_given_it_again() -> None:
    async with stage() as s:
        worker = await s.worker(slots=2)
        job, _ = await running(s, worker)
        await s.tick(16)
        assert (await s.get(job)).lost_count == 1
        session = await again(s, worker, job)
        assert await s.lease(session) == []
        assert await s.lease(await s.worker()) == []
        taken_up = await s.get(job)
        assert (taken_up.state, taken_up.attempt, taken_up.lost_count) == (JobState.RUNNING, 1, 0)
        assert [(one.number, one.outcome) for one in await s.scheduler.jobs.attempts(ADA, job.job_id)] == [(1, None)]
        await s.tick(16)
        again_lost = await s.get(job)
        assert (again_lost.state, again_lost.lost_count) == (JobState.QUEUED, 1)
        outcomes = [one.outcome for one in await s.scheduler.jobs.attempts(ADA, job.job_id)]
        assert outcomes == [AttemptOutcome.LOST]


async def test_a_worker_that_registers_again_goes_on_with_what_it_names_and_loses_the_rest() -> None:
    async with stage() as s:
        worker = await s.worker(slots=2)
        kept, _ = await running(s, worker)
        lost, _ = await running(s, worker)
        session = await again(s, worker, kept)
        assert await s.state(kept) is JobState.RUNNING
        assert (await s.get(lost)).lost_count == 1
        await connect(s, session).report([Report(1, kept.job_id, Succeeded(token(kept), b"x"))])
        assert await s.state(kept) is JobState.SUCCEEDED
        with pytest.raises(SessionUnknown):
            connect(s, worker)


async def test_the_old_stream_is_told_to_register_again() -> None:
    async with stage() as s:
        worker = await s.worker()
        stream = connect(s, worker)
        await again(s, worker)
        assert [order.type for order in await orders(stream)] == [DirectiveType.REREGISTER]


async def test_a_lease_that_three_heartbeats_do_not_name_is_taken_back() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker())
        for _ in range(2):
            stream.heartbeat(held())
        assert await s.state(job) is JobState.RUNNING
        stream.heartbeat(held())
        lost = await s.scheduler.jobs.wait(ADA, job.job_id, (await s.get(job)).revision, SECOND)
        assert (lost.state, lost.lost_count) == (JobState.QUEUED, 1)


async def test_a_heartbeat_confirms_an_offer() -> None:
    async with stage() as s:
        worker = await s.worker()
        await s.submit()
        (job,) = await s.lease(worker)
        connect(s, worker).heartbeat(held(job))
        confirmed = await s.scheduler.jobs.wait(ADA, job.job_id, job.revision, SECOND)
        assert confirmed.lease is not None
        assert confirmed.lease.confirmed
        connect(s, worker).heartbeat(held(job))
        await s.tick(11)
        assert await s.state(job) is JobState.LEASED


async def test_cancel_asks_then_forces_after_the_grace() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker(), timeouts=Timeouts(cancel_grace=2 * SECOND))
        asked = await s.scheduler.jobs.cancel(ADA, job.job_id, "enough", False)
        assert asked.state is JobState.CANCELLING
        (order,) = await orders(stream)
        assert (order.type, order.token, order.grace) == (DirectiveType.CANCEL, token(job), 2 * SECOND)
        stream.heartbeat(held(job))
        await s.tick(8)
        final = await s.get(job)
        assert (final.state, final.state_reason) == (JobState.CANCELLED, "enough")
        assert [order.type for order in await orders(stream)] == [DirectiveType.KILL]


async def test_a_result_that_wins_the_race_against_cancel_counts() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker())
        await s.scheduler.jobs.cancel(ADA, job.job_id, "", False)
        await stream.report([Report(2, job.job_id, Succeeded(token(job), b"won"))])
        assert await s.state(job) is JobState.SUCCEEDED
        assert (await s.scheduler.jobs.cancel(ADA, job.job_id, "", False)).state is JobState.SUCCEEDED


async def test_an_order_is_told_again_to_a_new_stream_until_the_worker_lets_go() -> None:
    async with stage() as s:
        worker = await s.worker()
        job, stream = await running(s, worker)
        await s.scheduler.jobs.cancel(ADA, job.job_id, "", False)
        assert await orders(stream) == await orders(connect(s, worker))
        await stream.report([Report(2, job.job_id, Released(token(job)))])
        assert await s.state(job) is JobState.CANCELLED


async def test_pause_stops_a_running_job_and_resume_runs_it_again() -> None:
    async with stage() as s:
        worker = await s.worker()
        job, stream = await running(s, worker)
        await s.scheduler.jobs.pause(ADA, job.job_id)
        assert [order.type for order in await orders(stream)] == [DirectiveType.PAUSE]
        await stream.report([Report(2, job.job_id, Succeeded(token(job), b"too late"))])
        assert await s.state(job) is JobState.PAUSED
        await s.scheduler.jobs.resume(ADA, job.job_id)
        (second,) = await s.lease(worker)
        assert second.attempt == 2
        history = await s.scheduler.jobs.attempts(ADA, job.job_id)
        assert [attempt.number for attempt in history] == [2, 1]


@pytest.mark.parametrize(
    ("timeouts", "name"),
    [
        (Timeouts(execution=5 * SECOND), "execution_timeout"),
        (Timeouts(stall=5 * SECOND), "stall_timeout"),
        (Timeouts(total=5 * SECOND), "total_timeout"),
    ],
)
async def test_a_running_job_times_out_and_is_killed(timeouts: Timeouts, name: str) -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker(), timeouts=timeouts)
        await s.tick(4)
        assert await s.state(job) is JobState.RUNNING
        await s.tick(1.1)
        final = await s.get(job)
        assert final.state is JobState.TIMED_OUT
        assert final.failure is not None
        assert final.failure.type == name
        assert [order.type for order in await orders(stream)] == [DirectiveType.KILL]


async def test_progress_and_logs_hold_off_the_stall_timeout() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker(), timeouts=Timeouts(stall=5 * SECOND))
        await s.tick(4)
        await stream.report([Report(2, job.job_id, Logged(token(job), 0, "alive\n", 1, s.hands.now))])
        await s.tick(4)
        await stream.report([Report(3, job.job_id, Progressed(token(job), Progress(percent=1.0)))])
        await s.tick(4)
        assert await s.state(job) is JobState.RUNNING


async def test_queue_timeout_and_delayed_start() -> None:
    async with stage() as s:
        waiting = await s.submit(timeouts=Timeouts(queue=5 * SECOND))
        later = await s.submit(schedule_time=s.hands.now + 10 * SECOND)
        assert later.state is JobState.SCHEDULED
        await s.tick(5)
        assert await s.state(waiting) is JobState.TIMED_OUT
        poll = s.poll(await s.worker())
        await s.parked(1)
        await s.tick(5)
        assert (await poll)[0].job_id == later.job_id


async def test_a_failure_is_tried_again_after_its_backoff_and_then_fails() -> None:
    async with stage() as s:
        worker = await s.worker()
        await s.submit(retry=RetryPolicy(max_attempts=2, initial_backoff=10 * SECOND, jitter=0.0))
        failure = Failure(FailureCause.HANDLER, "ValueError", "no")
        (job,) = await s.lease(worker)
        stream = connect(s, worker)
        await stream.report(
            [Report(1, job.job_id, Started(token(job))), Report(2, job.job_id, Failed(token(job), failure))]
        )
        assert await s.state(job) is JobState.SCHEDULED
        stream.heartbeat(held())
        await s.tick(9)
        assert await s.lease(worker) == []
        stream.heartbeat(held())
        await s.tick(1)
        (job,) = await s.lease(worker)
        await stream.report([Report(3, job.job_id, Failed(token(job), failure))])
        assert await s.state(job) is JobState.FAILED
        again_queued = await s.scheduler.jobs.retry(ADA, job.job_id)
        assert (again_queued.state, again_queued.attempt_count) == (JobState.QUEUED, 0)


async def test_finished_jobs_are_deleted_after_their_ttl() -> None:
    async with stage() as s:
        job, stream = await running(s, await s.worker(), timeouts=Timeouts(ttl=60 * SECOND))
        await stream.report([Report(2, job.job_id, Succeeded(token(job), b"x"))])
        await s.tick(59)
        assert await s.state(job) is JobState.SUCCEEDED
        await s.tick(1)
        assert await s.scheduler.jobs.find(ADA, JobFilter(), 10, None, False) == []


async def test_deregister_gives_jobs_back_without_counting_anything() -> None:
    async with stage() as s:
        worker = await s.worker()
        job, _ = await running(s, worker)
        await s.scheduler.workers.deregister(ADA, worker.worker_id, worker.session_id)
        back = await s.get(job)
        assert (back.state, back.lost_count, back.attempt_count) == (JobState.QUEUED, 0, 0)


async def test_after_a_restart_every_lease_gets_one_full_ttl_and_the_session_goes_on(tmp_path: Path) -> None:
    hands = Hands()
    async with stage(SqliteStore(tmp_path / "t.db"), hands) as s:
        worker = await s.worker()
        job, _ = await running(s, worker, timeouts=Timeouts(execution=30 * SECOND))
    hands.move(3600)
    async with stage(SqliteStore(tmp_path / "t.db"), hands) as s:
        await s.tick(14)
        assert await s.state(job) is JobState.RUNNING
        await connect(s, worker).report([Report(2, job.job_id, Succeeded(token(job), b"kept"))])
        assert (await s.get(job)).result == b"kept"


async def test_after_a_restart_a_worker_that_never_comes_back_is_lost(tmp_path: Path) -> None:
    hands = Hands()
    async with stage(SqliteStore(tmp_path / "t.db"), hands) as s:
        job, _ = await running(s, await s.worker())
    async with stage(SqliteStore(tmp_path / "t.db"), hands) as s:
        await s.tick(15)
        assert (await s.get(job)).lost_count == 1


async def test_a_cancel_is_told_again_after_a_restart(tmp_path: Path) -> None:
    hands = Hands()
    async with stage(SqliteStore(tmp_path / "t.db"), hands) as s:
        worker = await s.worker()
        job, _ = await running(s, worker)
        await s.scheduler.jobs.cancel(ADA, job.job_id, "", False)
    async with stage(SqliteStore(tmp_path / "t.db"), hands) as s:
        assert [order.type for order in await orders(connect(s, worker))] == [DirectiveType.CANCEL]


async def test_a_worker_that_its_owner_stops_shows_that_it_takes_no_more() -> None:
    async with stage() as s:
        worker = await s.worker()
        connect(s, worker).heartbeat(Heartbeat((), draining=True))
        assert s.scheduler.fleet.worker(ADA, worker.worker_id).state is WorkerState.DRAINING
        explained = await s.scheduler.jobs.explain(ADA, (await s.submit()).job_id)
        assert explained.workers[0].reasons == ("is draining",)
        back = await again(s, worker)
        assert s.scheduler.fleet.worker(ADA, back.worker_id).state is WorkerState.READY


async def test_a_user_has_only_so_many_workers_and_those_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "MOST_WORKERS", 3)
    path = tmp_path / "towpath.db"
    async with stage(SqliteStore(path)) as s:
        mine = [await s.worker() for _ in range(2)]
        theirs = await s.worker(who=BOB)
        await s.scheduler.workers.deregister(ADA, mine[0].worker_id, mine[0].session_id)
    # They are counted at each start, those that are offline too.
    async with stage(SqliteStore(path)) as s:
        mine.append(await s.worker())
        with pytest.raises(TooBusy, match=r"user ada has 3 workers.*towpath workers remove") as many:
            await s.worker()
        assert many.value.retry_after == newcomers.LATER
        # With an id that is another's one would get a new one.
        for asked in (shared_stage.again(theirs), Registration(worker_id=7, name="box", slots=1, job_types=("echo",))):
            with pytest.raises(TooBusy):
                await s.scheduler.workers.register(ADA, asked)
        for who in (BOB, EVE, replace(ADA, tenant="mill")):
            await s.worker(who=who)
        for one in mine:
            back = await s.scheduler.workers.register(ADA, shared_stage.again(one))
            assert back.worker_id == one.worker_id
        await s.scheduler.fleet.remove(ADA, mine[1].worker_id)
        await s.worker()
        with pytest.raises(TooBusy):
            await s.worker()
