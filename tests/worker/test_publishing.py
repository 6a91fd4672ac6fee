"""A worker and its models: published when the scheduler accepts the result, deleted when it does not."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.fake_scheduler import FakeScheduler, listening
from support.handling import unreadable
from support.worker_stage import working
from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker import models, staging
from towpath_worker.paths import Folders

Lease = worker_service_pb2.Lease

HANDLERS = ("support.tiny_training",)
TYPES = ("train", "list_models")


def training() -> job_pb2.Job:
    return job_pb2.Job(job_type="train", train=job_pb2.TrainSpec(target_column="y"))


def listing() -> job_pb2.Job:
    return job_pb2.Job(job_type="list_models", list_models=job_pb2.ListModelsSpec())


def abandon(lease: Lease) -> worker_service_pb2.Directive:
    return worker_service_pb2.Directive(
        type=worker_service_pb2.DIRECTIVE_TYPE_ABANDON, job_id=lease.job.job_id, lease_token=lease.lease_token
    )


def key(lease: Lease) -> staging.Lease:
    return lease.job.job_id, lease.lease_token


def folders(state: Path) -> Folders:
    return Folders(data=(), models=state / "models", results=state / "results")


async def trained(scheduler: FakeScheduler) -> tuple[Lease, job_pb2.TrainResult]:
    """A training whose outcome is sent, and not acked."""
    lease = await scheduler.offer_job(training())
    outcome = await scheduler.outcome(lease)
    assert outcome.HasField("succeeded"), outcome
    return lease, outcome.succeeded.result.train


async def settled(scheduler: FakeScheduler, lease: Lease) -> None:
    """Waits until the worker has done what an answer said: it does not name the lease any more."""
    beats = len(scheduler.heartbeats)

    def is_let_go() -> bool:
        return any(lease.lease_token not in map(token, one.held_leases) for one in scheduler.heartbeats[beats:])

    await scheduler.until(is_let_go)


def token(held: worker_service_pb2.HeldLease) -> str:
    return held.lease_token


async def listed(scheduler: FakeScheduler) -> list[str]:
    outcome = await scheduler.outcome(await scheduler.offer_job(listing()))
    return [model.model_id for model in outcome.succeeded.result.list_models.models]


async def test_the_scheduler_decides_what_becomes_of_a_model(tmp_path: Path) -> None:
    here = folders(tmp_path)
    async with (
        listening(FakeScheduler()) as scheduler,
        working(scheduler, tmp_path, handlers=HANDLERS, allow=TYPES, slots=2),
    ):
        scheduler.acks = False
        refused, result = await trained(scheduler)
        assert staging.leases(here) == {key(refused)}
        assert models.scan(here) == []
        scheduler.ack(abandon(refused))
        await settled(scheduler, refused)
        assert staging.leases(here) == set()
        assert models.scan(here) == []

        accepted, result = await trained(scheduler)
        beats = len(scheduler.heartbeats)
        await scheduler.direct(worker_service_pb2.DIRECTIVE_TYPE_ABANDON, accepted)
        await scheduler.until(lambda: len(scheduler.heartbeats) > beats + 2)
        assert staging.leases(here) == {key(accepted)}, "only the answer that acks the outcome decides"
        reading = await scheduler.offer_job(listing())
        await scheduler.until(lambda: reading.lease_token in map(token, scheduler.heartbeats[-1].held_leases))
        beats = len(scheduler.heartbeats)
        await scheduler.until(lambda: len(scheduler.heartbeats) > beats + 2)
        assert not scheduler.of(reading), "it waits for the ack"
        scheduler.acks = True
        scheduler.ack()
        outcome = await scheduler.outcome(reading)
        assert list(outcome.succeeded.result.list_models.models) == [result.model]
        assert staging.leases(here) == set()
        assert models.scan(here) == [result.model]
        assert not scheduler.synced, "the result itself has told of it"


async def test_a_model_that_waited_for_its_ack_through_a_restart_is_published_and_listed(tmp_path: Path) -> None:
    here = folders(tmp_path)
    async with listening(FakeScheduler()) as scheduler:
        scheduler.acks = False
        async with working(scheduler, tmp_path, handlers=HANDLERS, allow=TYPES, last_words=0.0):
            lease, result = await trained(scheduler)
        staging.stage(here, result.model, {"a": b"b"}, {}, ("job_x", "left by a killed training"))
        async with working(scheduler, tmp_path, handlers=HANDLERS, allow=TYPES):
            await scheduler.until(lambda: scheduler.sequences[1:] and scheduler.sequences[-1])
            assert staging.leases(here) == {key(lease)}
            assert not scheduler.registrations[-1].models
            assert not scheduler.synced
            scheduler.acks = True
            scheduler.ack()
            synced = await scheduler.until(lambda: scheduler.synced)
            assert list(synced[-1].models) == [result.model]
            assert staging.leases(here) == set()
            assert await listed(scheduler) == [result.model.model_id]
        async with working(scheduler, tmp_path, handlers=HANDLERS, allow=TYPES):
            registered = await scheduler.until(lambda: scheduler.registrations[2:])
            assert list(registered[0].models) == [result.model]


async def test_a_model_that_finds_something_in_its_way_holds_up_nothing_and_is_published_later(tmp_path: Path) -> None:
    here = folders(tmp_path)
    async with listening(FakeScheduler()) as scheduler:
        async with working(scheduler, tmp_path, handlers=HANDLERS, allow=TYPES):
            scheduler.acks = False
            stuck, result = await trained(scheduler)
            foreign = models.folder_of(here.models, "acme", "ann", result.model.name) / "1"
            foreign.mkdir(parents=True)
            (foreign / "mine.txt").touch()
            scheduler.acks = True
            scheduler.ack()
            later, other = await trained(scheduler)
            await settled(scheduler, later)
            assert models.scan(here) == [other.model]
            assert staging.leases(here) == {key(stuck)}
            await scheduler.direct(worker_service_pb2.DIRECTIVE_TYPE_ABANDON, stuck)
            scheduler.forget()
            await scheduler.until(lambda: scheduler.registrations[1:])
            await listed(scheduler)
            assert [one.HasField("succeeded") for one in scheduler.of(stuck)].count(True) == 1, "acked is acked"
            assert staging.leases(here) == {key(stuck)}
            foreign.rename(foreign.with_name("mine"))
            await settled(scheduler, stuck)
            assert {model.model_id for model in models.scan(here)} == {result.model.model_id, other.model.model_id}
            synced = await scheduler.until(lambda: scheduler.synced)
            assert len(synced[-1].models) == 2
        assert (tmp_path / "spool").stat().st_size == 0


@pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links")
async def test_a_folder_that_cannot_be_read_costs_no_model(tmp_path: Path) -> None:
    here = folders(tmp_path)
    async with listening(FakeScheduler()) as scheduler:
        scheduler.acks = False
        async with working(scheduler, tmp_path, handlers=HANDLERS, allow=TYPES) as worker:
            lease, result = await trained(scheduler)
            with unreadable(here.models / staging.STAGING):
                scheduler.acks = True
                scheduler.ack()
                assert await listed(scheduler) == []
                worker.stop.set()
                await worker.finished()
        assert scheduler.deregistrations == 1, "the scheduler has all it needs"
        assert staging.leases(here) == {key(lease)}
        async with AsyncExitStack() as stack:
            with unreadable(here.models / staging.STAGING):
                await stack.enter_async_context(working(scheduler, tmp_path, handlers=HANDLERS, allow=TYPES))
                assert await listed(scheduler) == []
            await settled(scheduler, lease)
            assert await listed(scheduler) == [result.model.model_id]
    assert staging.leases(here) == set()


@pytest.mark.parametrize("lost_syncs", [0, 1])
async def test_a_model_accepted_while_the_models_are_listed_is_listed_again(tmp_path: Path, lost_syncs: int) -> None:
    async with listening(FakeScheduler()) as scheduler:
        scheduler.acks = False
        async with working(scheduler, tmp_path, handlers=HANDLERS, allow=TYPES, last_words=0.0):
            _, first = await trained(scheduler)
        scheduler.sync_gate.clear()
        scheduler.lost_syncs = lost_syncs
        async with working(scheduler, tmp_path, handlers=HANDLERS, allow=TYPES):
            await scheduler.until(lambda: scheduler.sequences[1:] and scheduler.sequences[-1])
            scheduler.acks = True
            scheduler.ack()
            synced = await scheduler.until(lambda: scheduler.synced)
            assert list(synced[0].models) == [first.model]
            lease, second = await trained(scheduler)
            await settled(scheduler, lease)
            scheduler.sync_gate.set()
            synced = await scheduler.until(lambda: scheduler.synced[1:])
            assert {model.model_id for model in synced[0].models} == {first.model.model_id, second.model.model_id}
