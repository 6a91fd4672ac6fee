"""What one transaction does to jobs: many events a job, one write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from towpath_server.core import lifecycle
from towpath_server.core.attempts import finished_attempt
from towpath_server.core.events import Event
from towpath_server.core.evolve import evolve
from towpath_server.core.job import Attempt, Job
from towpath_server.store.base import Store


class Change(NamedTuple):
    """A job before and after a commit. `reported`: its own worker brought it about."""

    before: Job | None
    after: Job | None
    reported: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """What one item of a commit changed."""

    changes: tuple[Change, ...] = ()


def changes_of(outcome: object) -> tuple[Change, ...]:
    """What the outcome of a verb says that it changed."""
    changes: tuple[Change, ...] = getattr(outcome, "changes", ())
    return changes


class Changes:
    """The jobs of one transaction: loaded once, moved by events, saved once."""

    def __init__(self, store: Store, jobs: Mapping[int, Job], now: int) -> None:
        self._store = store
        self._now = now
        self._before = dict(jobs)
        self._current = dict(jobs)
        self._past: list[Attempt] = []
        self._reported: set[int] = set()

    @classmethod
    def load(cls, store: Store, job_ids: Iterable[int], now: int) -> Changes:
        """The changes of these jobs, those of them that exist."""
        return cls(store, store.load(list(dict.fromkeys(job_ids))), now)

    def take(self, job: Job) -> None:
        """Another job of this transaction, as it was loaded."""
        self._before[job.job_id] = self._current[job.job_id] = job

    def get(self, job_id: int) -> Job | None:
        """The job as it stands in this transaction."""
        return self._current.get(job_id)

    def jobs(self) -> list[Job]:
        """All jobs as they stand in this transaction."""
        return list(self._current.values())

    def apply(self, job_id: int, event: Event, *, reported: bool = False) -> Job:
        """Move a job. Raises what `lifecycle.apply` raises, and then the job is as before."""
        before = self._current[job_id]
        after = lifecycle.apply(before, event, self._now)
        if after is not before:
            self.put(before, after)
            if reported:
                self._reported.add(job_id)
        return after

    def put(self, before: Job, after: Job) -> None:
        """Replace a job that was changed by other means than an event."""
        if (attempt := finished_attempt(before, after)) is not None:
            self._past.append(attempt)
        self._current[after.job_id] = after

    def save(self) -> list[Change]:
        """Write what was moved, each job once and one revision further."""
        changes = []
        for job_id, before in self._before.items():
            after = self._current[job_id]
            if after is not before:
                sequence = self._store.sequence(self._now)
                after = evolve(after, revision=before.revision + 1, sequence=sequence)
                self._current[job_id] = after
                changes.append(Change(before, after, job_id in self._reported))
        if changes:
            self._store.save([change.after for change in changes if change.after is not None], self._past)
        return changes
