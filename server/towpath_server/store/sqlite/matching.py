"""SQL for `Matching`: which jobs fit a filter, and how many; and for `Recorded`.

There are two ways through the store. By lane: each lane's jobs of a state lie together in order of their ids, so a few
come from each, however many there are. By tenant: jobs in order of their ids, one by one, until enough fit.
"""

# Only names from this package go into the text of a statement; values are bound.
# ruff: noqa: S608
from __future__ import annotations

from typing import Any

from towpath_server.core.job import JobState
from towpath_server.store.base import Matching, Recorded
from towpath_server.store.rows import dumps
from towpath_server.store.side_rows import AUDIT_COLUMNS

# Of these there are few at any time, so all of them can be looked at.
_FEW = frozenset({JobState.LEASED, JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING})


def pick(matching: Matching) -> tuple[str, dict[str, Any]]:
    """A query for the ids of the jobs that fit, in order, and its parameters; `:limit` is still to be given."""
    parameters = _parameters(matching)
    if matching.changed_after is not None:
        return _by_sequence(matching), parameters
    if matching.dispatch_order:
        return _in_dispatch_order(matching), parameters
    few = bool(matching.states) and _FEW.issuperset(matching.states)
    named = bool(matching.states) or _names_lanes(matching)
    if few or (named and not _beyond_lanes(matching)):
        return _by_lane(matching), parameters
    return _by_tenant(matching), parameters


def tally(matching: Matching) -> tuple[str, dict[str, Any]]:
    """A query for rows of queue, state and the number of jobs that fit, and its parameters."""
    if _beyond_lanes(matching):
        sql = f"SELECT l.queue, j.state, count(*) FROM {_lanes_with_jobs(matching)} GROUP BY 1, 2"
    else:
        # Each range of the index is counted as it lies, without sorting a million rows into groups.
        sql = f"""
        SELECT l.queue, s.value, sum((SELECT count(*) FROM jobs j WHERE j.lane_id = l.lane_id AND j.state = s.value)) n
        FROM {_lanes(matching)} CROSS JOIN json_each(:states) s GROUP BY 1, 2 HAVING n > 0"""
    return sql, _parameters(matching)


def oldest(matching: Matching) -> tuple[str, dict[str, Any]]:
    """A query for rows of queue and the smallest queue_time of the QUEUED jobs that fit, and its parameters."""
    queued = "INDEXED BY jobs_queued"
    if _beyond_lanes(matching):
        jobs = _lanes_with_jobs(matching, queued, "j.state = 3")
        sql = f"SELECT l.queue, min(j.queue_time) FROM {jobs} GROUP BY 1"
    else:
        sql = f"""
        SELECT l.queue, min((
          SELECT min(j.queue_time) FROM jobs j {queued} WHERE j.lane_id = l.lane_id AND j.state = 3))
        FROM {_lanes(matching)} GROUP BY 1"""
    return sql, _parameters(matching)


def recorded(query: Recorded, limit: int) -> tuple[str, dict[str, Any]]:
    """A query for the audit events that are asked for, as AUDIT_COLUMNS, and its parameters."""
    conditions = ["true"]
    if query.tenants is not None:
        conditions.append("tenant IN (SELECT value FROM json_each(:tenants))")
    if query.action:
        prefix = query.action.endswith(".")
        conditions.append("substr(action, 1, length(:action)) = :action" if prefix else "action = :action")
    conditions += [f"{name} = :{name}" for name in ("user", "subject") if getattr(query, name)]
    if query.before is not None:
        conditions.append("event_id < :before")
    sql = f"""SELECT {", ".join(AUDIT_COLUMNS)} FROM audit WHERE {" AND ".join(conditions)}
    ORDER BY event_id DESC LIMIT :limit"""
    return sql, {
        "tenants": dumps(query.tenants),
        "action": query.action,
        "user": query.user,
        "subject": query.subject,
        "before": query.before,
        "limit": limit,
    }


def _by_lane(matching: Matching) -> str:
    order = "" if matching.ascending else "DESC"
    few = f"ORDER BY i.job_id {order} LIMIT :limit" if not _beyond_lanes(matching) else ""
    return f"""
        SELECT j.job_id FROM {_lanes(matching)} CROSS JOIN json_each(:states) s CROSS JOIN jobs j ON j.job_id IN (
          SELECT i.job_id FROM jobs i
          WHERE i.lane_id = l.lane_id AND i.state = s.value AND {_after(matching, "i")} {few})
        {_definitions(matching)} WHERE {_extras(matching)} ORDER BY j.job_id {order} LIMIT :limit"""


def _by_tenant(matching: Matching) -> str:
    order = "" if matching.ascending else "DESC"
    return f"""
        SELECT d.job_id FROM definitions d CROSS JOIN jobs j ON j.job_id = d.job_id
        WHERE {_same("d", matching)} AND {_after(matching, "d")} AND {_state_is_wanted(matching)}
        AND {_extras(matching)}
        ORDER BY d.job_id {order} LIMIT :limit"""


def _by_sequence(matching: Matching) -> str:
    return f"""
        SELECT j.job_id FROM jobs j INDEXED BY jobs_by_sequence CROSS JOIN definitions d ON d.job_id = j.job_id
        WHERE j.sequence > :changed_after AND {_same("d", matching)} AND {_state_is_wanted(matching)}
        AND {_extras(matching)} ORDER BY j.sequence LIMIT :limit"""


def _in_dispatch_order(matching: Matching) -> str:
    order = "ORDER BY {0}.priority DESC, {0}.position LIMIT :limit{1}"
    if matching.states == (JobState.QUEUED,) and not _beyond_lanes(matching):
        best = order.format("i", " + :after")
        jobs = f"""{_lanes(matching)} CROSS JOIN jobs j ON j.job_id IN (
          SELECT i.job_id FROM jobs i INDEXED BY jobs_queued WHERE i.lane_id = l.lane_id AND i.state = 3 {best})"""
    else:
        jobs = _lanes_with_jobs(matching)
    return f"SELECT j.job_id FROM {jobs} {order.format('j', ' OFFSET :after')}"


def _state_is_wanted(matching: Matching) -> str:
    return "j.state IN (SELECT value FROM json_each(:states))" if matching.states else "true"


def _lanes_with_jobs(matching: Matching, index: str = "", condition: str = "true") -> str:
    return f"""{_lanes(matching)} CROSS JOIN jobs j {index} ON j.lane_id = l.lane_id {_definitions(matching)}
        WHERE {_state_is_wanted(matching)} AND {condition} AND {_extras(matching)}"""


def _lanes(matching: Matching) -> str:
    return f"(SELECT lane_id, queue FROM lanes WHERE {_same('lanes', matching)}) l"


def _definitions(matching: Matching) -> str:
    wanted = matching.workspace is not None or bool(matching.labels)
    return "CROSS JOIN definitions d ON d.job_id = j.job_id" if wanted else ""


def _same(table: str, matching: Matching) -> str:
    given = [name for name in ("user", "queue", "job_type") if getattr(matching, name) is not None]
    return " AND ".join(f"{table}.{name} = :{name}" for name in ("tenant", *given))


def _after(matching: Matching, table: str) -> str:
    if matching.after is None:
        return "true"
    return f"{table}.job_id {'>' if matching.ascending else '<'} :after"


def _names_lanes(matching: Matching) -> bool:
    return any(value is not None for value in (matching.user, matching.queue, matching.job_type))


def _beyond_lanes(matching: Matching) -> bool:
    return bool(matching.labels) or any(
        value is not None for value in (matching.workspace, matching.worker_id, matching.ended_before)
    )


def _extras(matching: Matching) -> str:
    conditions = ["true"]
    if matching.workspace is not None:
        conditions.append("d.workspace = :workspace")
    if matching.worker_id is not None:
        conditions.append("j.worker_id = :worker_id")
    if matching.ended_before is not None:
        conditions.append("j.end_time <= :ended_before")
    if matching.labels:
        conditions.append("""NOT EXISTS (SELECT 1 FROM json_each(:labels) w WHERE NOT EXISTS (
          SELECT 1 FROM json_each(d.labels) h WHERE h.key = w.key AND h.value = w.value))""")
    return " AND ".join(conditions)


def _parameters(matching: Matching) -> dict[str, Any]:
    # Each once: they are joined with, and one that is named twice must not count twice.
    states = dict.fromkeys(matching.states or JobState)
    after = matching.after or 0 if matching.dispatch_order else matching.after
    return {
        "tenant": matching.tenant,
        "user": matching.user,
        "queue": matching.queue,
        "job_type": matching.job_type,
        "workspace": matching.workspace,
        "worker_id": matching.worker_id,
        "ended_before": matching.ended_before,
        "changed_after": matching.changed_after,
        "labels": dumps(dict(matching.labels)),
        "states": dumps([int(state) for state in states]),
        "after": after,
    }
