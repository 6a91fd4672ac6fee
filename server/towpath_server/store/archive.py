"""A whole store, read from one end to the other and written into an empty one: what a move needs beyond `Store`.

Each part is read in the order of its keys, in pages that fit into memory however large single jobs are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from towpath_server.core.job import Attempt, Job
from towpath_server.core.records import AuditEvent, Head, Lane, LogChunk
from towpath_server.store.base import RecordKey, RecordT, Store

T = TypeVar("T")

# Of what a page holds at most.
PAGE_ROWS = 1000
PAGE_BYTES = 8 << 20

AttemptKey = tuple[int, int]
LogKey = tuple[int, int, int]
FIRST_JOB = -(1 << 63)
FIRST_ATTEMPT: AttemptKey = (FIRST_JOB, 0)
FIRST_LOG: LogKey = (FIRST_JOB, 0, 0)
FIRST_EVENT = FIRST_JOB


class Archive(Protocol):
    """All that a store holds. An empty page is the last one."""

    def lanes(self) -> dict[Lane, Head | None]:
        """See `Store`."""

    def records(self, kind: type[RecordT], keys: Sequence[RecordKey] | None = None) -> list[RecordT]:
        """See `Store`."""

    def next_jobs(self, after: int) -> list[Job]:
        """The jobs that follow job `after`, by their id."""

    def next_attempts(self, after: AttemptKey) -> list[Attempt]:
        """The attempts that are over and follow this one, by job and number."""

    def next_logs(self, after: LogKey) -> list[LogChunk]:
        """The pieces of log that follow this one, by job, attempt and offset."""

    def next_audit(self, after: int) -> list[AuditEvent]:
        """The audit events that follow this one, by their id."""

    def size(self) -> int:
        """How many jobs, attempts, pieces of log and audit events there are."""

    def reached(self) -> int:
        """No change was ever given a greater sequence than this."""


class Target(Protocol):
    """An empty store that is being filled. It takes its place as a whole, or not at all."""

    store: Store
    """Its jobs, attempts, pieces of log, lanes and records are written in pages, each inside `page()`."""

    def page(self) -> AbstractContextManager[None]:
        """Around what is written at once."""

    def go_on_above(self, sequence: int) -> None:
        """Changes from now on are given greater sequences than this one."""

    def written(self) -> Archive:
        """What was written so far, as it will be read."""


def first_page(sizes: Iterable[tuple[T, int]]) -> list[T]:
    """Of things with their sizes in bytes, those that fit on a page: at least one."""
    page: list[T] = []
    left = PAGE_BYTES
    for one, size in sizes:
        if page and size > left:
            break
        page.append(one)
        left -= size
    return page
