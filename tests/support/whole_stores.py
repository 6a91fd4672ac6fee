"""Whole stores: one with something of everything, and all that a store holds, read by its own verbs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from towpath_server.core.records import ModelRecord, Queue, Quota, Token, Worker
from towpath_server.store.base import Matching, Recorded, Store

DATA = Path(__file__).parents[1] / "data"
MANY = 10_000


def make_store() -> Any:
    """tests/data/make_store.py as a module."""
    spec = importlib.util.spec_from_file_location("make_store", DATA / "make_store.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def read(store: Store) -> dict[str, list[Any]]:
    """All that it holds but the schedulers that live on it."""
    lanes = store.lanes()
    tenants = sorted({lane.tenant for lane in lanes})
    jobs = [job for tenant in tenants for job in store.find(Matching(tenant=tenant, ascending=True), MANY)]
    numbers = [(job.job_id, number) for job in jobs for number in range(1, max(job.attempt, 1) + 2)]
    return {
        "lanes": sorted(lanes, key=lambda lane: lane.lane_id),
        "heads": [lanes[lane] for lane in sorted(lanes, key=lambda lane: lane.lane_id)],
        "jobs": jobs,
        "attempts": [one for job in jobs for one in store.attempts(job.job_id)],
        "logs": [one for job_id, number in numbers for one in store.logs(job_id, number, 0, MANY)],
        "records": [
            *(*store.records(Token), *store.records(Queue), *store.records(Quota)),
            *(*store.records(Worker), *store.records(ModelRecord)),
        ],
        "audit": store.audit(Recorded(), MANY),
    }
