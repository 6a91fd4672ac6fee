"""The verbs of those who run the scheduler."""

from __future__ import annotations

from towpath_server.core.records import Principal
from towpath_server.scheduler import presence
from towpath_server.scheduler.filters import matching
from towpath_server.scheduler.jobs import summed
from towpath_server.scheduler.messages import JobFilter, Overview, ServerInfo
from towpath_server.scheduler.retention import Retention
from towpath_server.scheduler.state import State


class Admin:
    """Looking at the scheduler, and tidying up."""

    def __init__(self, state: State, retention: Retention, version: str, max_message_bytes: int) -> None:
        self._state = state
        self._retention = retention
        self._info = ServerInfo(version, state.ids.next(), state.store.name, state.clock.wall(), max_message_bytes)

    def info(self) -> ServerInfo:
        """Which scheduler this is."""
        return self._info

    async def overview(self, principal: Principal) -> Overview:
        """What the scheduler holds and does for the caller."""
        query = matching(principal, JobFilter())
        counts = await self._state.committer.scan(lambda store: store.count(query))
        now = self._state.clock.wall()
        mine = [worker for worker in self._state.workers.values() if principal.owns(worker.tenant, worker.user)]
        online = [(worker, seen) for worker in mine if (seen := presence.seen(self._state, worker)) is not None]
        slots = sum(worker.slots for worker, _ in online)
        return Overview(
            stats=summed(counts, now),
            workers=len(online),
            slots=slots,
            free_slots=max(slots - sum(seen.running for _, seen in online), 0),
            parked_polls=len(self._state.waiters) + self._state.presence.parked,
            uptime=now - self._info.start_time,
        )

    async def cleanup(self, principal: Principal, min_age: int) -> int:
        """Delete the tenant's jobs that have been final for `min_age` microseconds; how many they were."""
        ended_before = self._state.clock.wall() - min_age
        return await self._state.carry_out(self._retention.clean_up(principal.tenant, ended_before))
