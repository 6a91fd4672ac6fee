"""The jobs that the writer wrote or read last, as the file has them.

A job is created, leased and ended within moments, by one writer. To read it back from its rows each time would cost
more than to write it.
"""

from __future__ import annotations

from collections.abc import Iterable

from towpath_server.core.job import Definition, Job

# What is kept in all, and of one job at most (bytes, roughly).
MOST_BYTES = 24 * 1024 * 1024
MOST_OF_A_JOB = 64 * 1024
# A job without what its submitter and its worker wrote.
BARE_BYTES = 2048
# A label, or a metric, with its name.
NAME_BYTES = 400


class Recent:
    """Jobs by id. What a transaction brings counts for others once it is committed."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: dict[int, Job] = {}
        self._bytes = 0
        # Of the open transaction: None where the job is gone, or not to be kept.
        self._staged: dict[int, Job | None] = {}
        # What was given out in it: a definition that comes back as the same object needs no write.
        self._definitions: dict[int, Definition] = {}

    def get(self, job_id: int) -> Job | None:
        """The job as the open transaction sees it, where it is known."""
        if job_id in self._staged:
            return self._staged[job_id]
        job = self._kept.get(job_id)
        if job is not None:
            self._definitions[job_id] = job.definition
        return job

    def stage(self, jobs: Iterable[Job]) -> None:
        """So they stand in this transaction."""
        for job in jobs:
            self._definitions[job.job_id] = job.definition
            # What is final is seldom changed again.
            self._staged[job.job_id] = job if _is_kept(job) else None

    def forget(self, job_ids: Iterable[int]) -> None:
        """They are deleted in this transaction."""
        self._staged.update(dict.fromkeys(job_ids))

    def has_definition(self, job: Job) -> bool:
        """Whether this very definition is the stored one."""
        return self._definitions.get(job.job_id) is job.definition

    def commit(self) -> None:
        """What was staged is on disk."""
        for job_id, job in self._staged.items():
            if (old := self._kept.pop(job_id, None)) is not None:
                self._bytes -= _size(old)
            if job is not None:
                self._kept[job_id] = job
                self._bytes += _size(job)
        while self._bytes > self._most_bytes:
            self._bytes -= _size(self._kept.pop(next(iter(self._kept))))

    def end(self) -> None:
        """The transaction is over, committed or not."""
        self._staged.clear()
        self._definitions.clear()


def _is_kept(job: Job) -> bool:
    # A failure may bring a long traceback, and its job waits before it is tried again.
    return not job.state.is_final and job.failure is None and _size(job) <= MOST_OF_A_JOB


def _size(job: Job) -> int:
    definition, progress = job.definition, job.progress
    told = len(progress.message) + NAME_BYTES * len(progress.metrics) if progress is not None else 0
    written = len(definition.spec) + len(definition.annotations) + NAME_BYTES * len(definition.labels)
    return BARE_BYTES + written + told + len(job.result or b"")
