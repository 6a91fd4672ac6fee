"""The verbs of `SharedStore` that read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from towpath_server.core.job import Attempt, Definition, Job, JobState
from towpath_server.core.quotas import Owner, Use
from towpath_server.core.records import AuditEvent, Head, Lane, LogChunk
from towpath_server.store import side_rows, usage
from towpath_server.store.base import Count, Matching, Origin, Query, Recorded, RecordKey, RecordT
from towpath_server.store.postgres import arrays, feed, finding, statements
from towpath_server.store.postgres.connection import Connection
from towpath_server.store.postgres.writer import Writer
from towpath_server.store.record_rows import TABLES
from towpath_server.store.shared import News

_LOG_TEXT = side_rows.LOG_COLUMNS.index("text")


class Reading:
    """On one connection. `writer` is the one whose changes are `mine`."""

    name = "postgres"

    def __init__(self, writer: Writer, connection: Connection) -> None:
        self._writer = writer
        self._connection = connection
        # What was given out in the open transaction: a definition that comes back as the same object needs no write.
        self._definitions: dict[int, Definition] = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`."""
        with self._connection.transaction():
            self._definitions.clear()
            yield

    def now(self) -> int:
        """See `SharedStore`."""
        return self._writer.clock.now()

    def news(self, after: int, limit: int, *, mine: bool = True) -> News:
        """See `SharedStore`."""
        return feed.news(self._connection, after, limit, self._writer.number, mine=mine)

    def origin(self, now: int) -> Origin:
        """See `Store`."""
        return feed.origin(self._connection, now)

    def load(self, job_ids: Sequence[int]) -> dict[int, Job]:
        """See `Store`."""
        return {job.job_id: job for job in self._given(finding.load(self._connection, job_ids))} if job_ids else {}

    def find(self, query: Query, limit: int) -> list[Job]:
        """See `Store`."""
        return self._given(finding.find(self._connection, query, limit)) if limit else []

    def count(self, matching: Matching) -> list[Count]:
        """See `Store`."""
        return [
            Count(queue, JobState(state), number, oldest)
            for queue, state, number, oldest in finding.counts(self._connection, matching)
        ]

    def usage(self, *, sizes: bool = False) -> dict[Owner, Use]:
        """See `Store`."""
        return usage.asked(self._connection.rows, sizes=sizes)

    def next_due(self, *, final: bool = False) -> int | None:
        """See `Store`."""
        due: int | None = self._connection.value(statements.NEXT_DUE_FINAL if final else statements.NEXT_DUE)
        return due

    def attempts(self, job_id: int) -> list[Attempt]:
        """See `Store`."""
        return [side_rows.read_attempt(row) for row in self._connection.rows(statements.ATTEMPTS, [str(job_id)])]

    def lanes(self) -> dict[Lane, Head | None]:
        """See `Store`."""
        return dict(side_rows.read_lane(row) for row in self._connection.rows(statements.LANES))

    def records(self, kind: type[RecordT], keys: Sequence[RecordKey] | None = None) -> list[RecordT]:
        """See `Store`."""
        table = TABLES[kind]
        sql = statements.select(table, by_key=keys is not None, lock=keys is not None and self._connection.writes)
        if keys is None:
            found = self._connection.rows(sql)
        else:
            types = statements.kinds(table.name, table.columns[: table.key])
            found = self._connection.rows(sql, arrays.columns(types, keys)) if keys else []
        return [table.read(row) for row in found]

    def logs(self, job_id: int, attempt: int, offset: int, limit: int) -> list[LogChunk]:
        """See `Store`."""
        found = self._connection.rows(statements.LOGS, [str(job_id), str(attempt), str(offset), str(limit)])
        return [
            side_rows.read_log((*row[:_LOG_TEXT], arrays.give_nul(row[_LOG_TEXT]), *row[_LOG_TEXT + 1 :]))
            for row in found
        ]

    def audit(self, query: Recorded, limit: int) -> list[AuditEvent]:
        """See `Store`."""
        return finding.recorded(self._connection, query, limit)

    def close(self) -> None:
        """See `Store`."""
        self._connection.close()

    def _given(self, jobs: list[Job]) -> list[Job]:
        if self._connection.writes:
            self._definitions.update((job.job_id, job.definition) for job in jobs)
        return jobs
