"""Queries for whole jobs and for audit events, and what their rows say."""

# Only names from this package go into the text of a statement; values are bound.
# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from towpath_server.core.job import Job
from towpath_server.core.records import AuditEvent
from towpath_server.store import base, rows, side_rows
from towpath_server.store.base import Matching, Query, Recorded
from towpath_server.store.postgres import arrays, statements, tags
from towpath_server.store.postgres import matching as matching_sql
from towpath_server.store.postgres.arrays import give_nul, keep_nul
from towpath_server.store.postgres.connection import Connection
from towpath_server.store.postgres.values import Values
from towpath_server.store.rows import Row

_JOB = statements.names(rows.JOB_COLUMNS[:-1], "j.")
_DEFINITION = statements.names(rows.DEFINITION_COLUMNS[1:], "d.")
_AUDIT = statements.names(side_rows.AUDIT_COLUMNS)
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
        case base.OwnedBy(job_ids, tenant, user):
            mine = f"d.tenant = {values.text(tenant)}" + ("" if user is None else f" AND d.user = {values.text(user)}")
            condition, order = f"j.job_id = ANY ({values.numbers(dict.fromkeys(job_ids))}) AND {mine}", "j.job_id"
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


def recorded(connection: Connection, query: Recorded, limit: int) -> list[AuditEvent]:
    """The audit events that are asked for, the newest first."""
    values = Values()
    conditions = ["true"]
    if query.tenants is not None:
        conditions.append(f"tenant = ANY ({values.add(arrays.texts(query.tenants), 'text[]')})")
    if query.action:
        action = values.text(query.action)
        conditions.append(f"starts_with(action, {action})" if query.action.endswith(".") else f"action = {action}")
    conditions += [
        f'"{name}" = {values.text(keep_nul(text))}' for name in ("user", "subject") if (text := getattr(query, name))
    ]
    if query.before is not None:
        conditions.append(f"event_id < {values.number(query.before)}")
    sql = f"""SELECT {_AUDIT} FROM audit WHERE {" AND ".join(conditions)}
    ORDER BY event_id DESC LIMIT {values.number(limit)}"""
    return read_audit(connection.rows(sql, values.given))


def read_audit(found: Sequence[Row]) -> list[AuditEvent]:
    """The audit events of rows of AUDIT_COLUMNS."""
    return [
        side_rows.read_audit([give_nul(value) if isinstance(value, str) else value for value in row]) for row in found
    ]
