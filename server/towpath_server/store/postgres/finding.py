"""Queries for whole jobs, and their rows as jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from towpath_server.core.job import Job
from towpath_server.store import base, rows
from towpath_server.store.base import Matching, Query
from towpath_server.store.postgres import matching as matching_sql
from towpath_server.store.postgres import statements, tags
from towpath_server.store.postgres.arrays import give_nul
from towpath_server.store.postgres.connection import Connection
from towpath_server.store.postgres.values import Values
from towpath_server.store.rows import Row

_JOB = statements.names(rows.JOB_COLUMNS[:-1], "j.")
_DEFINITION = statements.names(rows.DEFINITION_COLUMNS[1:], "d.")
_REASON = rows.JOB_COLUMNS.index("state_reason")
# At the end whether the definition is the one that was stored with this job: after a wait for its lock it need not be.
_SELECT = f"SELECT {_JOB}, {_DEFINITION}, j.defined = d.defined"
_FROM = f"{_SELECT} FROM jobs j JOIN definitions d ON d.job_id = j.job_id"
_LOCK = "FOR UPDATE OF j"
_AGAIN = f"{_FROM} WHERE j.job_id = ANY ($1::bigint[])"


def load(connection: Connection, job_ids: Sequence[int]) -> list[Job]:
    """Those of the jobs that exist; locked where the connection writes."""
    values = Values()
    wanted = f"j.job_id = ANY ({values.numbers(dict.fromkeys(job_ids))}) ORDER BY j.job_id"
    lock = _LOCK if connection.writes else ""
    return _jobs(connection, f"{_FROM} WHERE {wanted} {lock}", values)


def find(connection: Connection, query: Query, limit: int) -> list[Job]:
    """The jobs that answer the query, in its order; locked where the connection writes."""
    if isinstance(query, Matching):
        return _matching(connection, query, limit)
    values = Values()
    lock = _LOCK if connection.writes else ""
    match query:
        case base.ByRequest(tenant, user, request_ids):
            wanted = [tags.request(tenant, user, one) for one in dict.fromkeys(request_ids) if one]
            condition, order = f"d.request IS NOT NULL AND d.request = ANY ({values.blobs(wanted)})", "d.job_id"
        case base.ByDedupe(tenant, user, keys):
            wanted = [tags.dedupe(tenant, user, key) for key in dict.fromkeys(keys) if key]
            held = "j.dedupe IS NOT NULL AND j.state < 8"
            condition, order = f"{held} AND j.dedupe = ANY ({values.blobs(wanted)})", "j.job_id"
        case base.InLane(lane_id):
            condition = f"j.lane_id = {values.number(lane_id)} AND j.state = 3"
            order, lock = "j.priority DESC, j.position", lock and f"{lock} SKIP LOCKED"
        case base.Due(now, final):
            which = "j.state >= 8" if final else "j.state < 8"
            condition = f"j.due_time IS NOT NULL AND {which} AND j.due_time <= {values.number(now)}"
            order, lock = "j.due_time, j.job_id", lock and f"{lock} SKIP LOCKED"
        case base.HeldBy(session_id):
            condition, order = f"j.lease_session = {values.text(session_id)}", "j.job_id"
    sql = f"{_FROM} WHERE {condition} ORDER BY {order} LIMIT {values.number(limit)} {lock}"
    return _jobs(connection, sql, values)


def _matching(connection: Connection, query: Matching, limit: int) -> list[Job]:
    # States are listed as they were asked for: whoever asks for one a hundred times means it once.
    parts = matching_sql.Filter(query, settled=not connection.writes)
    picked = parts.pick(limit)
    # Locked in the order of their ids, whatever the order asked for, and looked at again where that took a wait.
    lock = f"AND {parts.still()} ORDER BY j.job_id {_LOCK}" if connection.writes else ""
    sql = f"""WITH p AS MATERIALIZED ({picked}) {_SELECT}
    FROM p JOIN jobs j ON j.job_id = p.job_id JOIN definitions d ON d.job_id = p.job_id WHERE true {lock}"""
    found = _jobs(connection, sql, parts.values)
    if query.changed_after is not None:
        return sorted(found, key=attrgetter("sequence"))
    if query.dispatch_order:
        return sorted(found, key=lambda job: (-job.priority, job.position))
    return sorted(found, key=attrgetter("job_id"), reverse=not query.ascending)


def _jobs(connection: Connection, sql: str, values: Values) -> list[Job]:
    found = connection.rows(sql, values.given)
    stale = [row[0] for row in found if not row[-1]]
    if stale:
        again = Values()
        again.numbers(stale)
        fresh = {row[0]: row for row in connection.rows(_AGAIN, again.given)}
        found = [fresh.get(row[0], row) for row in found]
    return [_read(row) for row in found]


def _read(row: Row) -> Job:
    job = rows.read_job(row[:-1])
    reason = give_nul(job.state_reason)
    return job if reason is job.state_reason else replace(job, state_reason=reason)


def counts(connection: Connection, query: Matching) -> list[tuple[str, int, int, int | None]]:
    """Rows of queue, state, how many jobs fit, and the smallest queue_time of those QUEUED."""
    parts = matching_sql.Filter(query, settled=False)
    sql = parts.tally()
    # A server that has not looked through the last millions yet would read them all, once for each lane and state.
    with connection.by_index():
        found: list[Any] = connection.rows(sql, parts.values.given)
    return sorted(found)
