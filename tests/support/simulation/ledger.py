"""What is committed, kept apart from the store: every revision of every job, from the writes that COMMIT went through.

The store double tells it. Whether the store itself says the same is checked after every restart and at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from towpath_server.core.job import Attempt, Job, JobState
from towpath_server.core.records import Lane, Queue, Quota, Worker
from towpath_server.store.base import Record


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One stored change of a job, as a commit made it; `number` is the commit's."""

    before: Job | None
    after: Job | None
    number: int
    past: tuple[Attempt, ...] = ()


@dataclass(slots=True)
class Grant:
    """A lease that was given: when by the steady clock, in which commit, and the session that got it."""

    job_id: int
    attempt: int
    session_id: str
    steady: int
    number: int


@dataclass
class Ledger:
    """All that was ever committed."""

    number: int = 0
    jobs: dict[int, Job] = field(default_factory=dict)
    gone: dict[int, Job] = field(default_factory=dict)
    revisions: dict[tuple[int, int], Job] = field(default_factory=dict)
    attempts: dict[int, dict[int, Attempt]] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    latest_token: dict[int, str] = field(default_factory=dict)
    token_of: dict[tuple[int, int], str] = field(default_factory=dict)
    # Since which commit a job waits at its present priority.
    waits_since: dict[int, int] = field(default_factory=dict)
    lanes: dict[int, Lane] = field(default_factory=dict)
    queues: dict[tuple[str, str], Queue] = field(default_factory=dict)
    # In which commit a queue was last paused, or let go on.
    switched_in: dict[tuple[str, str], int] = field(default_factory=dict)
    workers: dict[int, Worker] = field(default_factory=dict)
    # Each worker as it was when a session of it began, by session; and those that were removed.
    met: dict[str, Worker] = field(default_factory=dict)
    removed: dict[int, Worker] = field(default_factory=dict)
    # All quotas by tenant and user, and after which commit they were so: the present ones come last.
    quotas: list[tuple[int, dict[tuple[str, str], Quota]]] = field(default_factory=lambda: [(0, {})])
    last_sequence: int = 0
    # No change comes at or before this one any more; of several schedulers, some may come before the last.
    settled: int = 0
    is_shared: bool = False
    # Which life of a scheduler made a commit, and the last of each that is of interest to the others, and when.
    writers: dict[int, object] = field(default_factory=dict)
    told_last: dict[object, int] = field(default_factory=dict)
    # All those, with their moments.
    news: list[tuple[int, int]] = field(default_factory=list)
    # In which commit a job was last changed.
    changed_in: dict[int, int] = field(default_factory=dict)

    def begin(self, writer: object) -> None:
        """A commit has gone through; its writes follow."""
        self.number += 1
        self.writers[self.number] = writer

    def insert(self, jobs: Sequence[Job], steady: int) -> Iterator[Step]:
        """New jobs; each is taken in once it has been looked at."""
        for job in jobs:
            yield (step := Step(None, job, self.number))
            self._take(step, steady)

    def save(self, jobs: Sequence[Job], past: Sequence[Attempt], steady: int) -> Iterator[Step]:
        """Changed jobs; each is taken in once it has been looked at."""
        for job in jobs:
            mine = tuple(attempt for attempt in past if attempt.job_id == job.job_id)
            for attempt in mine:
                self.attempts.setdefault(job.job_id, {})[attempt.number] = attempt
            yield (step := Step(self.jobs.get(job.job_id), job, self.number, mine))
            self._take(step, steady)

    def delete(self, job_ids: Sequence[int]) -> Iterator[Step]:
        """Deleted jobs."""
        for job_id in job_ids:
            if (job := self.jobs.get(job_id)) is not None:
                yield Step(job, None, self.number)
                self.gone[job_id] = self.jobs.pop(job_id)
                self.attempts.pop(job_id, None)
                self.waits_since.pop(job_id, None)

    def put(self, records: Sequence[Record]) -> None:
        """Small records."""
        for record in records:
            if isinstance(record, Worker):
                self.workers[record.worker_id] = record
                if record.session_id:
                    self.met.setdefault(record.session_id, record)
            elif isinstance(record, Quota):
                self.quotas.append((self.number, self.quotas[-1][1] | {(record.tenant, record.user): record}))
            elif isinstance(record, Queue):
                key = (record.tenant, record.name)
                if key not in self.queues or record.paused is not self.queues[key].paused:
                    self.switched_in[key] = self.number
                self.queues[key] = record

    def remove(self, records: Sequence[Record]) -> None:
        """Small records that are gone."""
        for record in records:
            if isinstance(record, Worker) and record.worker_id in self.workers:
                self.removed[record.worker_id] = self.workers.pop(record.worker_id)
            elif isinstance(record, Quota):
                gone = (record.tenant, record.user)
                left = {owner: quota for owner, quota in self.quotas[-1][1].items() if owner != gone}
                self.quotas.append((self.number, left))

    def is_removed(self, token: str) -> bool:
        """Whether the worker that was given this lease was removed since."""
        grant = self.grants.get(token)
        return grant is not None and self.met[grant.session_id].worker_id in self.removed

    def settle(self, horizon: int) -> None:
        """Somebody was told that no change comes at or before this one any more."""
        self.settled = max(self.settled, horizon)

    def told(self, steady: int) -> None:
        """This commit is of interest to all schedulers."""
        self.told_last[self.writers[self.number]] = self.number
        self.news.append((self.number, steady))

    def history(self, job: Job) -> dict[int, Attempt]:
        """The attempts that are over and were followed by another state."""
        return self.attempts.get(job.job_id, {})

    def _take(self, step: Step, steady: int) -> None:
        job, before = step.after, step.before
        assert job is not None
        self.jobs[job.job_id] = job
        self.changed_in[job.job_id] = self.number
        self.revisions[job.job_id, job.revision] = job
        self.last_sequence = max(self.last_sequence, job.sequence)
        if not self.is_shared:
            self.settled = self.last_sequence
        if job.state is not JobState.QUEUED:
            self.waits_since.pop(job.job_id, None)
        elif before is None or before.state is not JobState.QUEUED or before.priority != job.priority:
            self.waits_since[job.job_id] = self.number
        if job.lease is not None and job.lease.token not in self.grants:
            grant = Grant(job.job_id, job.attempt, job.lease.session_id, steady, self.number)
            self.grants[job.lease.token] = grant
            self.latest_token[job.job_id] = job.lease.token
            self.token_of[job.job_id, job.attempt] = job.lease.token
