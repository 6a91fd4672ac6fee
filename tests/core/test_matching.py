"""Which worker serves which lane, and what is said where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from towpath_server.core.ids import show
from towpath_server.core.job import Requirements
from towpath_server.core.matching import misfits, profile, serves
from towpath_server.core.records import Gpu, Lane, Machine, Share, Worker

WORKER_ID, MODEL_ID = 11, 21
WORKER = Worker(
    worker_id=WORKER_ID,
    name="box",
    tenant="acme",
    user="ann",
    slots=1,
    job_types=("train", "predict"),
    labels={"zone": "a", "disk": "ssd"},
    machine=Machine(cpu_count=4, memory_mb=8000, gpus=(Gpu("small", 8000), Gpu("large", 24000))),
    create_time=0,
    connect_time=0,
)
PROFILE = profile(WORKER, [MODEL_ID])
LANE = Lane(lane_id=1, tenant="acme", user="ann", queue="default", job_type="train")

FITS = {
    "nothing asked": Requirements(),
    "all of it": Requirements(
        cpu_count=4,
        memory_mb=8000,
        gpu_count=2,
        gpu_memory_mb=8000,
        worker_labels=(("disk", "ssd"), ("zone", "a")),
        worker_id=WORKER_ID,
        model_id=MODEL_ID,
    ),
    "a gpu": Requirements(gpu_count=1),
    "the large gpu": Requirements(gpu_count=1, gpu_memory_mb=24000),
    "any gpu of a size": Requirements(gpu_memory_mb=24000),
}

MISFITS: Mapping[str, tuple[Requirements, str]] = {
    "cores": (Requirements(cpu_count=5), "has 4 cores of 5"),
    "memory": (Requirements(memory_mb=8001), "has 8000 MiB of memory of 8001"),
    "gpus": (Requirements(gpu_count=3), "has 2 GPUs of 3"),
    "gpus of a size": (Requirements(gpu_count=2, gpu_memory_mb=8001), "has 1 GPUs of 8001 MiB of 2"),
    "gpu memory alone": (Requirements(gpu_memory_mb=24001), "has 0 GPUs of 24001 MiB of 1"),
    "label": (Requirements(worker_labels=(("gpu", "yes"),)), "lacks label gpu=yes"),
    "label's value": (Requirements(worker_labels=(("disk", "ssd"), ("zone", "b"))), "lacks label zone=b"),
    "worker": (Requirements(worker_id=12), f"the job is for {show('wkr', 12)} alone"),
    "model": (Requirements(model_id=22), f"does not hold {show('mdl', 22)}"),
}


@pytest.mark.parametrize("needs", FITS.values(), ids=FITS)
def test_a_fit(needs: Requirements) -> None:
    lane = replace(LANE, requirements=needs)
    assert misfits(lane, PROFILE, WORKER_ID) == ()
    assert serves(lane, PROFILE, WORKER_ID)


@pytest.mark.parametrize(("needs", "reason"), MISFITS.values(), ids=MISFITS)
def test_a_misfit(needs: Requirements, reason: str) -> None:
    lane = replace(LANE, requirements=needs)
    assert misfits(lane, PROFILE, WORKER_ID) == (reason,)
    assert not serves(lane, PROFILE, WORKER_ID)


@pytest.mark.parametrize(
    ("lane", "reason"),
    [
        (replace(LANE, job_type="list_models"), "cannot run list_models"),
        (replace(LANE, job_type="Train"), "cannot run Train"),
        (replace(LANE, user="bob"), "serves ann, not bob; it is not shared"),
    ],
)
def test_a_job_of_another_type_or_user(lane: Lane, reason: str) -> None:
    assert misfits(lane, PROFILE, WORKER_ID) == (reason,)


def test_a_worker_that_is_shared_runs_jobs_of_all_users_of_its_tenant() -> None:
    shared = profile(replace(WORKER, share=Share.TENANT), [])
    assert serves(replace(LANE, user="bob"), shared, WORKER_ID)
    assert serves(LANE, shared, WORKER_ID)
    assert misfits(replace(LANE, user="bob", job_type="other"), shared, WORKER_ID) == ("cannot run other",)
    assert shared != profile(WORKER, [])


@pytest.mark.parametrize("share", Share)
def test_nothing_crosses_tenants_also_where_users_share_a_name(share: Share) -> None:
    assert not serves(replace(LANE, tenant="other"), profile(replace(WORKER, share=share), []), WORKER_ID)


def test_all_reasons_are_told_at_once() -> None:
    needs = Requirements(cpu_count=64, memory_mb=1 << 20, gpu_count=8, worker_labels=(("a", "1"), ("b", "2")))
    reasons = misfits(replace(LANE, job_type="other", requirements=needs), PROFILE, WORKER_ID)
    assert [reason.split()[0] for reason in reasons] == ["cannot", "has", "has", "has", "lacks", "lacks"]


def test_queue_and_concurrency_key_do_not_matter() -> None:
    assert serves(replace(LANE, queue="other", concurrency_key="key"), PROFILE, WORKER_ID)


def test_a_machine_that_told_nothing_serves_what_asks_for_nothing() -> None:
    bare = profile(replace(WORKER, machine=Machine(), labels={}), [])
    assert serves(LANE, bare, WORKER_ID)
    assert not serves(replace(LANE, requirements=Requirements(cpu_count=1)), bare, WORKER_ID)


def test_workers_that_are_alike_share_a_profile() -> None:
    twin = replace(WORKER, worker_id=12, name="twin", labels=dict(sorted(WORKER.labels.items())), slots=9)
    assert len({PROFILE, profile(twin, iter([MODEL_ID]))}) == 1
    assert profile(twin, []) != PROFILE
