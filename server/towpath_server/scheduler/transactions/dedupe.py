"""Dedupe keys: of the jobs of a user that are not final, at most one has a key."""

from __future__ import annotations

from collections.abc import Iterable

from towpath_server.core.errors import DedupeConflict
from towpath_server.core.ids import show
from towpath_server.core.job import Definition, Job
from towpath_server.store.base import ByDedupe, Store

DedupeKey = tuple[str, str, str]


def dedupe_key(definition: Definition) -> DedupeKey | None:
    """Whose key it is, and the key; None where the job has none."""
    return (definition.tenant, definition.user, definition.dedupe_key) if definition.dedupe_key else None


def find_holders(store: Store, definitions: Iterable[Definition]) -> list[Job]:
    """The jobs that are not final and have the keys of these."""
    asked: dict[tuple[str, str], dict[str, None]] = {}
    for definition in definitions:
        if definition.dedupe_key:
            asked.setdefault((definition.tenant, definition.user), {})[definition.dedupe_key] = None
    return [
        job
        for (tenant, user), keys in asked.items()
        for job in store.find(ByDedupe(tenant, user, tuple(keys)), len(keys))
    ]


class Holders:
    """Which job has a key now, while a transaction moves jobs."""

    def __init__(self, store: Store, jobs: Iterable[Job]) -> None:
        """Of the keys of these jobs."""
        found = find_holders(store, [job.definition for job in jobs])
        self._by_key = {dedupe_key(job.definition): job.job_id for job in found}

    def demand_free(self, job: Job) -> None:
        """Raises `DedupeConflict` where another job has the key of this one."""
        holder = self._by_key.get(dedupe_key(job.definition))
        if holder not in (None, job.job_id):
            raise conflict(job.definition, holder)

    def moved(self, job: Job) -> None:
        """The job stands so now."""
        key = dedupe_key(job.definition)
        if key is None:
            return
        if not job.state.is_final:
            self._by_key[key] = job.job_id
        elif self._by_key.get(key) == job.job_id:
            del self._by_key[key]


def conflict(definition: Definition, holder: int) -> DedupeConflict:
    """What is told of a job that cannot live beside the holder of its key."""
    return DedupeConflict(job_id=show("job", holder), dedupe_key=definition.dedupe_key)
