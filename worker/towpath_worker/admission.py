"""What this machine's owner lets the scheduler run here: looked at again for each lease, at the last moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from towpath.v1 import worker_pb2, worker_service_pb2
from towpath_worker.job_log import JobLog
from towpath_worker.log import logger
from towpath_worker.plan import job_type

log = logger("towpath.worker")

SHARES = {"user": worker_pb2.WORKER_SHARE_UNSPECIFIED, "tenant": worker_pb2.WORKER_SHARE_TENANT}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose worker this is, as its token says."""

    tenant: str
    user: str


class Admission:
    """The job types served and the people served. A scheduler that asks for more is refused."""

    def __init__(self, job_types: Iterable[str], *, shared: bool, job_log: JobLog) -> None:
        self._job_log = job_log
        self._job_types = frozenset(job_types)
        self._shared = shared
        #: Unknown until the scheduler has said it; it is asked at the first registration, and not again.
        self.identity: Identity | None = None

    def refusal(self, lease: worker_service_pb2.Lease) -> worker_service_pb2.Released | None:
        """What is said of a job that is not run here; None where it is. It counts like the loss of a worker."""
        why = self._why_not(lease)
        if why is None:
            return None
        log.error("job refused", job=lease.job.job_id, type=job_type(lease.job), why=why)
        self._job_log.refused(lease, why)
        return worker_service_pb2.Released(reason=worker_service_pb2.RELEASE_REASON_UNABLE, message=why)

    def _why_not(self, lease: worker_service_pb2.Lease) -> str | None:
        wanted = job_type(lease.job)
        if wanted not in self._job_types:
            return f"This worker's owner does not let it run {wanted[:100]!r} (--allow)."
        own = self.identity
        if own is None:
            return None
        if lease.job.tenant != own.tenant:
            return "This worker runs jobs of its own tenant only."
        if lease.job.user != own.user and not self._shared:
            return "This worker runs its own user's jobs only. To share it, start it with --share tenant."
        return None
