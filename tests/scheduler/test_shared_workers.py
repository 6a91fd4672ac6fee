"""Whose jobs a worker runs: its own user's, or those of its tenant where both its token and its owner say so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.stage import ADA, BOB, EVE, Stage
from towpath_server.core.errors import Forbidden, ModelNotFound, WorkerNotFound
from towpath_server.core.events import Succeeded
from towpath_server.core.job import Definition, Job
from towpath_server.core.records import Machine, ModelRecord, Principal, Role, Share
from towpath_server.scheduler.messages import NewJob, Registered, Registration, Report, WorkerView

CAT = Principal(token_id=4, tenant="acme", user="cat", role=Role.SUBMITTER)
BOBS_BOX = Principal(token_id=5, tenant="acme", user="bob", role=Role.WORKER, share=Share.TENANT)
MALLORY = Principal(token_id=6, tenant="evil", user="mallory", role=Role.SUBMITTER)


def registration(share: Share = Share.TENANT, models: tuple[ModelRecord, ...] = (), **fields: object) -> Registration:
    machine = Machine(cpu_count=2, memory_mb=4096, hostname="den.home", platform="linux")
    asked = Registration(
        worker_id=None, name="den", slots=4, job_types=("echo", "predict"), machine=machine, models=models, share=share
    )
    return replace(asked, **fields)  # type: ignore[arg-type]


def model(number: int, name: str, user: str, tenant: str = "acme") -> ModelRecord:
    return ModelRecord(
        model_id=number,
        worker_id=0,
        tenant=tenant,
        user=user,
        name=name,
        version=1,
        model_type="xgboost",
        task_type=1,
        create_time=number,
    )


async def predict(s: Stage, who: Principal, ref: str) -> Job:
    definition = Definition(tenant="", user="", job_type="predict")
    return (await s.scheduler.jobs.create(who, [NewJob(definition, model=ref)]))[0]


async def came(s: Stage, *jobs: Job, worker: Registered, who: Principal = BOBS_BOX) -> bool:
    return {job.job_id for job in await s.lease(worker, 4, who=who)} == {job.job_id for job in jobs}


def seen_by(s: Stage, who: Principal) -> list[WorkerView]:
    return s.scheduler.fleet.workers(who, include_offline=True)


async def test_a_shared_worker_runs_jobs_of_all_users_of_its_tenant_and_of_no_other(s: Stage) -> None:
    worker = await s.scheduler.workers.register(BOBS_BOX, registration())
    mine, hers, _ = [await s.submit(who=who) for who in (BOB, CAT, MALLORY)]
    assert await came(s, mine, hers, worker=worker)
    parked = s.poll(worker, 4, who=BOBS_BOX)
    await s.parked(1)
    foreign = await s.submit(who=MALLORY)
    assert not parked.done()
    handed = await s.submit(who=CAT)
    assert [job.job_id for job in await parked] == [handed.job_id]
    assert (await s.get(foreign, EVE)).lease is None


async def test_a_worker_that_is_not_shared_runs_its_own_user_s_jobs_alone(s: Stage) -> None:
    worker = await s.scheduler.workers.register(BOBS_BOX, registration(Share.USER))
    mine, hers = [await s.submit(who=who) for who in (BOB, CAT)]
    assert await came(s, mine, worker=worker)
    told = await s.scheduler.jobs.explain(CAT, hers.job_id)
    assert told.workers == ()
    [fit] = (await s.scheduler.jobs.explain(ADA, hers.job_id)).workers
    assert fit.reasons == ("serves bob, not cat; it is not shared",)


async def test_a_worker_that_waits_longest_gets_the_job_whoever_shares_it(s: Stage) -> None:
    shared = await s.scheduler.workers.register(BOBS_BOX, registration())
    own = await s.worker(who=CAT)
    first = s.poll(shared, who=BOBS_BOX)
    await s.parked(1)
    second = s.poll(own, who=CAT)
    await s.parked(2)
    jobs = [await s.submit(who=CAT), await s.submit(who=CAT)]
    assert [[job.job_id for job in await poll] for poll in (first, second)] == [[job.job_id] for job in jobs]


@pytest.mark.parametrize("role", [Role.WORKER, Role.SUBMITTER])
async def test_no_token_shares_more_than_it_may(s: Stage, role: Role) -> None:
    own_only = replace(BOBS_BOX, role=role, share=Share.USER)
    with pytest.raises(Forbidden, match="--share tenant"):
        await s.scheduler.workers.register(own_only, registration())
    assert seen_by(s, ADA) == []
    await s.scheduler.workers.register(ADA, registration())
    assert [view.worker.share for view in seen_by(s, ADA)] == [Share.TENANT]


async def test_who_may_use_a_worker_sees_what_it_can_do_and_not_whose_machine_it_is(s: Stage) -> None:
    held = (model(7, "mine", "bob"), model(8, "hers", "cat"))
    worker = await s.scheduler.workers.register(BOBS_BOX, registration(models=held))
    await s.scheduler.workers.register(BOBS_BOX, registration(Share.USER, name="closet"))
    [view] = seen_by(s, CAT)
    assert (view.worker.worker_id, view.worker.machine.cpu_count, view.models) == (worker.worker_id, 2, 1)
    assert (view.worker.machine.hostname, view.worker.machine.platform) == ("", "")
    assert {other.worker.machine.hostname for other in seen_by(s, BOB)} == {"den.home"}
    assert len(seen_by(s, BOB)) == 2
    assert seen_by(s, EVE) == []
    with pytest.raises(WorkerNotFound):
        s.scheduler.fleet.worker(EVE, worker.worker_id)
    assert (await s.scheduler.admin.overview(CAT)).slots == 4


async def test_models_on_a_shared_worker_are_of_those_for_whom_they_were_trained(s: Stage) -> None:
    held = (model(7, "mine", "bob"), model(8, "hers", "cat"), model(9, "old", ""), model(10, "far", "eve", "evil"))
    worker = await s.scheduler.workers.register(BOBS_BOX, registration(models=held))
    catalogue = s.scheduler.catalogue
    assert {one.name for one in catalogue.find(BOB)} == {"mine", "old"}
    assert {one.name for one in catalogue.find(CAT)} == {"hers"}
    assert catalogue.find(EVE) == []
    # What was trained for another tenant is nobody's here.
    assert {one.name for one in catalogue.find(ADA)} == {"mine", "hers", "old"}
    job = await predict(s, CAT, "hers")
    for who in (BOB, ADA):
        # An admin sees it; a job of an admin's would be told that it is not there.
        with pytest.raises(ModelNotFound):
            await predict(s, who, "hers")
    assert await came(s, job, worker=worker)


async def test_what_a_worker_holds_of_others_is_gone_once_it_is_not_shared_any_more(s: Stage) -> None:
    held = (model(7, "mine", "bob"), model(8, "hers", "cat"))
    worker = await s.scheduler.workers.register(BOBS_BOX, registration(models=held))
    again = registration(Share.USER, held, worker_id=worker.worker_id)
    back = await s.scheduler.workers.register(BOBS_BOX, again)
    assert back.worker_id == worker.worker_id
    assert [one.name for one in s.scheduler.catalogue.find(ADA)] == ["mine"]
    await s.scheduler.workers.sync_models(BOBS_BOX, back.worker_id, back.session_id, held)
    assert [one.name for one in s.scheduler.catalogue.find(ADA)] == ["mine"]
    assert [one.name for one in s.scheduler._state.store.records(ModelRecord)] == ["mine"]


async def test_no_worker_takes_another_s_model_by_naming_its_id(s: Stage) -> None:
    cats = await s.scheduler.workers.register(CAT, registration(Share.USER, (model(8, "hers", "cat"),)))
    thieves = [
        (MALLORY, registration(Share.USER)),
        (BOB, registration(Share.USER)),
        (BOBS_BOX, registration()),
    ]
    for who, asked in thieves:
        worker = await s.scheduler.workers.register(who, asked)
        claimed = [model(8, "stolen", whose, who.tenant) for whose in (who.user, "cat")]
        for one in claimed:
            await s.scheduler.workers.sync_models(who, worker.worker_id, worker.session_id, [one])
            await s.scheduler.workers.register(who, replace(asked, models=(one,)))
        job = await s.submit(who=who)
        [leased] = await s.lease(worker, who=who)
        assert leased.job_id == job.job_id
        assert leased.lease is not None
        stream = s.scheduler.workers.connect(who, worker.worker_id, worker.session_id)
        await stream.report([Report(1, job.job_id, Succeeded(leased.lease.token, b""), claimed[0])])
        [kept] = s.scheduler._state.store.records(ModelRecord)
        assert (kept.name, kept.user, kept.worker_id) == ("hers", "cat", cats.worker_id)
        assert s.scheduler.catalogue.find(CAT) == [kept]
        assert s.scheduler.catalogue.find(replace(who, user=who.user)) == []


async def test_models_go_with_their_folder_to_another_worker_of_the_same_user(s: Stage) -> None:
    held = (model(8, "hers", "cat"),)
    await s.scheduler.workers.register(CAT, registration(Share.USER, held))
    other = await s.scheduler.workers.register(CAT, registration(Share.USER, held))
    assert [one.worker_id for one in s.scheduler.catalogue.find(CAT)] == [other.worker_id]
