"""What each user has in a store, for quotas. The statements are the same for every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from towpath_server.core.job import Job, JobState
from towpath_server.core.quotas import NOTHING, Owner, Use, total, use_of
from towpath_server.core.records import LogChunk

ON_WORKERS = (JobState.LEASED, JobState.RUNNING, JobState.CANCELLING)
# From the lanes to their jobs by state: what is over is not looked at.
ALIVE = """SELECT lanes.tenant, lanes."user", jobs.state, count(*) FROM lanes CROSS JOIN jobs
WHERE jobs.lane_id = lanes.lane_id AND jobs.state IN (1, 3, 4, 5, 6, 7)
GROUP BY lanes.tenant, lanes."user", jobs.state"""
# These two look at all that is kept.
RESULTS = """SELECT lanes.tenant, lanes."user", CAST(sum(length(jobs.result)) AS bigint) FROM jobs
JOIN lanes ON lanes.lane_id = jobs.lane_id WHERE jobs.result IS NOT NULL GROUP BY lanes.tenant, lanes."user\""""
LOGS = """SELECT lanes.tenant, lanes."user", CAST(sum(logs.size) AS bigint) FROM logs
JOIN jobs ON jobs.job_id = logs.job_id JOIN lanes ON lanes.lane_id = jobs.lane_id
GROUP BY lanes.tenant, lanes."user\""""


def asked(rows: Callable[[str], Iterable[tuple[Any, ...]]], *, sizes: bool) -> dict[Owner, Use]:
    """What each user has, by statements that `rows` carries out."""
    uses: dict[Owner, list[Use]] = {}
    for tenant, user, state, count in rows(ALIVE):
        use = Use(running=count) if state in ON_WORKERS else Use(queued=count)
        uses.setdefault((tenant, user), []).append(use)
    if sizes:
        for tenant, user, size in rows(RESULTS):
            uses.setdefault((tenant, user), []).append(Use(result_bytes=size))
        for tenant, user, size in rows(LOGS):
            uses.setdefault((tenant, user), []).append(Use(log_bytes=size))
    return _summed(uses)


def counted(jobs: Iterable[Job], logs: Iterable[LogChunk], *, sizes: bool) -> dict[Owner, Use]:
    """The same where all of them are in memory."""
    uses: dict[Owner, list[Use]] = {}
    owner_of: dict[int, Owner] = {}
    for job in jobs:
        owner = owner_of[job.job_id] = (job.definition.tenant, job.definition.user)
        use = use_of(job)
        uses.setdefault(owner, []).append(use if sizes else use._replace(result_bytes=0))
    for chunk in logs if sizes else ():
        uses.setdefault(owner_of[chunk.job_id], []).append(Use(log_bytes=len(chunk.text.encode())))
    return _summed(uses)


def _summed(uses: dict[Owner, list[Use]]) -> dict[Owner, Use]:
    return {owner: use for owner, each in uses.items() if (use := total(each)) != NOTHING}
