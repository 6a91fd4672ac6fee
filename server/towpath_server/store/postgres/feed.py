"""What others have changed: jobs and small records in the order of their sequences, as far as it is settled."""

# Only names from this package go into the text of a statement; values are bound.
# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Iterable

from towpath_server.core import ids
from towpath_server.core.job import JobState
from towpath_server.store.base import Origin
from towpath_server.store.postgres.connection import Connection
from towpath_server.store.postgres.matching import HORIZON
from towpath_server.store.record_rows import TABLES
from towpath_server.store.rows import PRIORITIES, Row, loads
from towpath_server.store.shared import Brief, News

MILLISECOND = 1000
_JOBS = """SELECT job_id, lane_id, priority, position, state, revision, sequence, due_time, lease_session, lease_token,
writer = $3::bigint FROM jobs WHERE ($4::boolean OR writer <> $3::bigint) AND"""
_SETTLED = f"{_JOBS} sequence > $1::bigint AND sequence <= $5::bigint ORDER BY sequence LIMIT $2::bigint"
# The newest: an open transaction anywhere on the server may hold up very many, and most of them were told before.
_AHEAD = f"{_JOBS} sequence > $1::bigint ORDER BY sequence DESC LIMIT $2::bigint"
_RECORDS = "SELECT kind, key FROM record_changes WHERE sequence > $1::bigint ORDER BY sequence"
_HORIZON = f"SELECT {HORIZON}"
_ORIGIN = f"SELECT {HORIZON}, (SELECT max(job_id) FROM jobs)"
_KINDS = {table.name: kind for kind, table in TABLES.items()}


def news(connection: Connection, after: int, limit: int, writer: int, *, mine: bool) -> News:
    """See `SharedStore`."""
    # Asked first: outside a transaction what is seen later is more, never less.
    settled = max(after, connection.value(_HORIZON))
    whose = [str(writer), str(mine)]
    found = connection.rows(_SETTLED, [str(after), str(limit + 1), *whose, str(settled)])
    ahead = connection.rows(_AHEAD, [str(settled), str(limit), *whose]) if len(found) <= limit else []
    changed = connection.rows(_RECORDS, [str(after)])
    records = [(_KINDS[kind], tuple(loads(key))) for kind, key in changed if kind in _KINDS]
    if len(found) > limit:
        jobs = _briefs(found[:limit])
        return News(jobs, records, jobs[-1].sequence if jobs else after, more=True)
    # Those left out behind the horizon are told when they are settled.
    return News(_briefs([*found, *reversed(ahead)]), records, settled)


def _briefs(found: Iterable[Row]) -> list[Brief]:
    return [
        Brief(
            job_id=job_id,
            lane_id=lane_id,
            priority=PRIORITIES[priority],
            position=position,
            state=JobState(state),
            revision=revision,
            sequence=sequence,
            due_time=due_time,
            session_id=session_id,
            token=token,
            mine=mine,
        )
        for job_id, lane_id, priority, position, state, revision, sequence, due_time, session_id, token, mine in found
    ]


def origin(connection: Connection, now: int) -> Origin:
    """See `Store`."""
    [[horizon, greatest]] = connection.rows(_ORIGIN)
    born = 0 if greatest is None else ids.moment(greatest) + MILLISECOND
    return Origin(horizon, max(now, born))
