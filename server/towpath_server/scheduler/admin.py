"""The verbs of those who run the scheduler."""

from __future__ import annotations

from dataclasses import replace

from towpath_server.core.job import SECOND
from towpath_server.core.records import AuditEvent, Principal
from towpath_server.scheduler import audit, presence
from towpath_server.scheduler.access import FIRST_TENANT
from towpath_server.scheduler.filters import matching
from towpath_server.scheduler.jobs import summed
from towpath_server.scheduler.messages import JobFilter, Overview, ServerInfo
from towpath_server.scheduler.retention import Retention
from towpath_server.scheduler.state import State
from towpath_server.store.base import Recorded


class Admin:
    """Looking at the scheduler, and tidying up."""

    def __init__(self, state: State, retention: Retention, version: str, max_message_bytes: int) -> None:
        self._state = state
        self._retention = retention
        now = state.clock.wall()
        self._info = ServerInfo(version, state.ids.next(), state.store.name, now, max_message_bytes, server_time=now)

    def info(self) -> ServerInfo:
        """Which scheduler this is, and what its clock says."""
        return replace(self._info, server_time=self._state.clock.wall())

    async def overview(self, principal: Principal) -> Overview:
        """What the scheduler holds and does for the caller."""
        query = matching(principal, JobFilter())
        counts = await self._state.committer.scan(lambda store: store.count(query))
        now = self._state.clock.wall()
        mine = [worker for worker in self._state.workers.values() if principal.may_use(worker)]
        online = [(worker, seen) for worker in mine if (seen := presence.seen(self._state, worker)) is not None]
        slots = sum(worker.slots for worker, _ in online)
        return Overview(
            stats=summed(counts, now),
            workers=len(online),
            slots=slots,
            free_slots=max(slots - sum(seen.running for _, seen in online), 0),
            parked_polls=sum(seen.parked for _, seen in online),
            uptime=now - self._info.start_time,
        )

    async def cleanup(self, principal: Principal, min_age: int) -> int:
        """Delete the tenant's jobs that have been final for `min_age` microseconds; how many they were."""
        ended_before = self._state.clock.wall() - min_age
        told = audit.event(self._state, principal, audit.JOBS_CLEANED_UP, min_age_s=min_age // SECOND)
        return await self._state.carry_out(self._retention.clean_up(principal.tenant, ended_before, told))

    async def audit(
        self, principal: Principal, action: str, user: str, subject: str, limit: int, before: int | None
    ) -> list[AuditEvent]:
        """What people and machines of the caller's tenant did, newest first.

        Those who run the scheduler also see what nobody did that is known, and what the scheduler did itself.
        """
        tenants = (principal.tenant, "") if principal.tenant == FIRST_TENANT else (principal.tenant,)
        query = Recorded(tenants=tenants, action=action, user=user, subject=subject, before=before)
        return await self._state.committer.scan(lambda store: store.audit(query, limit))
