"""Reports as the worker keeps them until they are acked."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from google.protobuf import timestamp_pb2

from towpath.v1 import job_pb2, worker_service_pb2

#: A lease: the job's id and the lease's token.
Key = tuple[str, str]
Report = worker_service_pb2.Report

OUTCOMES = frozenset({"succeeded", "failed", "released"})
REFUSED = job_pb2.Failure(
    cause=job_pb2.FAILURE_CAUSE_HANDLER,
    type="ResultRefused",
    message="The scheduler refused the job's outcome as invalid. See the worker's log.",
)


@dataclass(slots=True, eq=False)
class Entry:
    """A report, with what is asked of it often. `size` is known once it is numbered, in bytes."""

    report: Report
    key: Key
    event: str
    is_outcome: bool
    size: int = 0

    @property
    def lasts(self) -> bool:
        """Whether it is worth its place on disk."""
        return not self.report.HasField("progress")


def entry_of(report: Report) -> Entry:
    """A report that is not numbered yet."""
    event = report.WhichOneof("event") or ""
    return Entry(report, (report.job_id, report.lease_token), event, event in OUTCOMES)


def key_of(report: Report) -> Key:
    """The lease that a report is about."""
    return report.job_id, report.lease_token


def now() -> timestamp_pb2.Timestamp:
    """This machine's time."""
    seconds, nanos = divmod(time.time_ns(), 10**9)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)


def holding(keys: Collection[Key]) -> Report:
    """One report that names leases, as a heartbeat does."""
    report = Report()
    add = report.heartbeat.held_leases.add
    for job_id, token in keys:
        add(job_id=job_id, lease_token=token)
    return report


def held_in(report: Report) -> Iterator[Key]:
    """The leases that `holding` named; none where it is a report of another kind."""
    return ((one.job_id, one.lease_token) for one in report.heartbeat.held_leases)


def release_of_dead(key: Key) -> Report:
    """Gives back a job that ran in a worker's own process when that ended: it counts as lost."""
    reason = worker_service_pb2.RELEASE_REASON_UNABLE
    released = worker_service_pb2.Released(reason=reason, message="The worker ended while the job ran in its process.")
    return Report(job_id=key[0], lease_token=key[1], released=released)
