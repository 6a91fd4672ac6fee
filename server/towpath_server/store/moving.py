"""Taking a whole store elsewhere: page by page, then read again on the other side and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from typing import TypeVar

from towpath_server.core.job import Attempt, Job, JobState
from towpath_server.core.records import AuditEvent, Lane, LogChunk, ModelRecord, Queue, Quota, Token, Worker
from towpath_server.store import rows, side_rows
from towpath_server.store.archive import FIRST_ATTEMPT, FIRST_EVENT, FIRST_JOB, FIRST_LOG, PAGE_ROWS, Archive, Target
from towpath_server.store.base import Record, Store, StoreRefused
from towpath_server.store.record_rows import TABLES
from towpath_server.store.rows import Row

# Things done, and things in all.
OnProgress = Callable[[int, int], None]

T = TypeVar("T")

_STATE = rows.JOB_COLUMNS.index("state")
_SIZE = side_rows.LOG_COLUMNS.index("size")


@dataclass(frozen=True, slots=True)
class Page:
    """Some things of one part of a store, as rows, and what writes them."""

    part: str
    rows: Sequence[Row]
    write: Callable[[Store], None]


@dataclass(slots=True)
class Contents:
    """What a store holds, as it was read: how many of each, and a digest of all of it."""

    counts: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    log_bytes: int = 0
    _digest: blake2b = field(default_factory=lambda: blake2b(digest_size=16), repr=False)

    def add(self, page: Page) -> None:
        """The next page. Parts and their rows come in one order; how they are cut into pages makes no difference."""
        self.counts[page.part] += len(page.rows)
        if page.part == "jobs":
            self.states.update(JobState(row[_STATE]).name for row in page.rows)
        if page.part == "logs":
            self.log_bytes += sum(row[_SIZE] for row in page.rows)
        for row in page.rows:
            self._digest.update(f"{page.part}{row!r}".encode("utf-8", "surrogatepass"))

    @property
    def digest(self) -> str:
        """Two stores that hold the same have the same."""
        return self._digest.hexdigest()


def move(source: Archive, target: Target, on_progress: OnProgress) -> Contents:
    """Fill the target with all that the source holds, and prove that it is there. Raises `StoreRefused`."""
    sent, found = Contents(), Contents()
    # All is read twice.
    progress = _Progress(2 * source.size(), on_progress)
    for page in pages(source):
        with target.page():
            page.write(target.store)
        sent.add(page)
        progress.add(page)
    with target.page():
        target.go_on_above(source.reached())
    for page in pages(target.written()):
        found.add(page)
        progress.add(page)
    progress.end()
    if (sent.counts, sent.states, sent.digest) != (found.counts, found.states, found.digest):
        raise StoreRefused(
            f"What was written is not what was read: {_listed(sent)} became {_listed(found)}. Nothing was moved. "
            "Please report this."
        )
    return sent


class _Progress:
    def __init__(self, whole: int, tell: OnProgress) -> None:
        self._done, self._whole, self._tell = 0, max(whole, 1), tell

    def add(self, page: Page) -> None:
        """It is done."""
        self._done += len(page.rows)
        self._tell(min(self._done, self._whole - 1), self._whole)

    def end(self) -> None:
        """All is done."""
        self._tell(self._whole, self._whole)


def pages(archive: Archive) -> Iterator[Page]:
    """Everything, in the order in which it can be written."""
    lanes = sorted(archive.lanes(), key=lambda lane: lane.lane_id)
    for some in _cut(lanes):
        yield Page("lanes", [side_rows.lane_row(one) for one in some], partial(_add_lanes, some))
    # Which schedulers live on a store says nothing about another one. Whoever begins on that takes over all sessions.
    workers = [replace(one, replica_id=0) for one in archive.records(Worker)]
    plain: tuple[Sequence[Record], ...] = (archive.records(Token), archive.records(Queue), archive.records(Quota))
    for records in (*plain, workers, archive.records(ModelRecord)):
        for few in _cut(records):
            table = TABLES[type(few[0])]
            yield Page(table.name, [table.row(one) for one in few], partial(_put, few))
    job = FIRST_JOB
    while jobs := archive.next_jobs(job):
        yield Page("jobs", [rows.job_row(one) + rows.definition_row(one) for one in jobs], partial(_insert, jobs))
        job = jobs[-1].job_id
    attempt = FIRST_ATTEMPT
    while attempts := archive.next_attempts(attempt):
        yield Page("attempts", [side_rows.attempt_row(one) for one in attempts], partial(_save_attempts, attempts))
        attempt = (attempts[-1].job_id, attempts[-1].number)
    log = FIRST_LOG
    while logs := archive.next_logs(log):
        yield Page("logs", [side_rows.log_row(one) for one in logs], partial(_append_logs, logs))
        log = (logs[-1].job_id, logs[-1].attempt, logs[-1].offset)
    event = FIRST_EVENT
    while events := archive.next_audit(event):
        yield Page("audit", [side_rows.audit_row(one) for one in events], partial(_append_audit, events))
        event = events[-1].event_id


def _cut(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + PAGE_ROWS] for start in range(0, len(things), PAGE_ROWS))


def _add_lanes(lanes: Sequence[Lane], store: Store) -> None:
    store.add_lanes(lanes)


def _put(records: Sequence[Record], store: Store) -> None:
    store.put(records)


def _insert(jobs: Sequence[Job], store: Store) -> None:
    store.insert(jobs)


def _save_attempts(attempts: Sequence[Attempt], store: Store) -> None:
    # It changes no job.
    store.save([], attempts)


def _append_logs(chunks: Sequence[LogChunk], store: Store) -> None:
    store.append_logs(chunks)


def _append_audit(events: Sequence[AuditEvent], store: Store) -> None:
    store.append_audit(events)


def _listed(contents: Contents) -> str:
    return ", ".join(f"{count} {part}" for part, count in sorted(contents.counts.items())) or "nothing"
