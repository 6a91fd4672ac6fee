"""The verbs of those who look after quotas, and what stands against new jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from towpath_server.core.errors import Forbidden, InvalidArgument, QuotaNotFound, TowpathError, Violation
from towpath_server.core.job import SECOND, ConflictPolicy, Job
from towpath_server.core.quotas import DEFAULT, Owner
from towpath_server.core.records import AuditEvent, Principal, Quota, Role
from towpath_server.log import Logger
from towpath_server.scheduler import audit
from towpath_server.scheduler.access import FIRST_TENANT
from towpath_server.scheduler.allowance import Counted
from towpath_server.scheduler.messages import NewJob, QuotaView
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.records import KEEP, Keep
from towpath_server.store.base import ByDedupe, ByRequest, RecordKey, Store
from towpath_server.store.committer import Verb

log = Logger(__name__)

# How often the store is asked what memory cannot know (seconds), and how much longer than the look itself to wait.
LOOK = 5.0
REST = 20
# The count goes behind all that a commit changes.
LAST = 99


class Quotas:
    """Setting and showing quotas, and looking after the counts that they are held against."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look at the store from time to time, as long as there are quotas that need it."""
        if self._state.allowance.is_on and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run(), name="quotas")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def set(self, principal: Principal, quota: Quota) -> Quota:
        """Put a quota in the place of the one of the same tenant and user. Raises `Forbidden`."""
        _demand_runner(principal)
        if quota.user and not quota.tenant:
            raise InvalidArgument((Violation("quota.tenant", "is needed with a user: say whose user it is"),))
        limits = {name: limit for name, limit in asdict(quota).items() if name not in ("tenant", "user")}
        told = audit.event(self._state, principal, audit.QUOTA_SET, _subject(quota), **limits)
        await self._state.carry_out(self._set(quota, told))
        return quota

    async def _set(self, quota: Quota, told: AuditEvent) -> None:
        await self._state.committer.submit(KEEP, Keep((quota,), audit=(told,)))
        await self._begin_to_count()
        self.meet((quota,))

    async def delete(self, principal: Principal, tenant: str, user: str) -> None:
        """Take a quota away. Raises `Forbidden`, `QuotaNotFound`."""
        _demand_runner(principal)
        quota = self._state.allowance.quotas.get((tenant, user))
        if quota is None:
            whose = f"{user} of {tenant}" if user else tenant
            raise QuotaNotFound(whom=whose or "all tenants that have none of their own")
        told = audit.event(self._state, principal, audit.QUOTA_DELETED, _subject(quota))
        await self._state.carry_out(self._delete(quota, told))

    async def _delete(self, quota: Quota, told: AuditEvent) -> None:
        await self._state.committer.submit(KEEP, Keep(remove=(quota,), audit=(told,)))
        self.meet((), ((quota.tenant, quota.user),))

    def quotas(self, principal: Principal) -> list[QuotaView]:
        """The quotas that this caller may see, with what is in use; of its own tenant those that hold for it."""
        known = self._state.allowance.quotas
        if _runs_scheduler(principal):
            return [self._view(quota) for quota in known.values()]
        mine = {owner: quota for owner, quota in known.items() if owner[0] == principal.tenant}
        whole = (principal.tenant, "")
        if whole not in mine and DEFAULT in known:
            mine[whole] = replace(known[DEFAULT], tenant=principal.tenant)
        return [self._view(quota) for owner, quota in mine.items() if not owner[1] or principal.owns(*owner)]

    def _view(self, quota: Quota) -> QuotaView:
        return QuotaView(quota, self._state.allowance.use((quota.tenant, quota.user)))

    def known(self, keys: Sequence[RecordKey]) -> list[Quota]:
        """Those of the quotas that are in memory."""
        return [quota for owner, quota in self._state.allowance.quotas.items() if owner in keys]

    async def hear(self, changed: Sequence[Quota], gone: Sequence[Owner]) -> None:
        """Another scheduler has set these, and taken those away."""
        if changed:
            await self._begin_to_count()
        self.meet(changed, gone)

    def meet(self, changed: Iterable[Quota], gone: Iterable[Owner] = ()) -> None:
        """Quotas as they are kept now."""
        self._state.allowance.put(changed, gone)
        self.start()

    async def _begin_to_count(self) -> None:
        allowance = self._state.allowance
        if not allowance.is_on:
            # It counts from this very commit on.
            allowance.is_on = True
            try:
                await self._state.committer.submit(COUNT, None)
            except BaseException:
                allowance.is_on = bool(allowance.quotas)
                raise

    async def _run(self) -> None:
        rest = 0.0
        while self._state.allowance.is_on:
            await asyncio.sleep(rest)
            begun = self._state.clock.steady()
            try:
                await self.look()
            except TowpathError as error:
                log.warning("quotas", error=repr(error))
            rest = max(LOOK, REST * (self._state.clock.steady() - begun) / SECOND)

    async def look(self) -> None:
        """Learn from the store what memory cannot know: how much is kept and, of several schedulers, what others did.

        What happens meanwhile may count twice, or not at all, until the next look.
        """
        allowance = self._state.allowance
        jobs, sizes = self._state.is_shared, allowance.limits_sizes
        if jobs or sizes:
            allowance.begin_look()
            found = await self._state.committer.scan(lambda store: store.usage(sizes=sizes))
            allowance.adopt(found, jobs=jobs, sizes=sizes)


async def demand_room(state: State, principal: Principal, new: Sequence[NewJob]) -> None:
    """Raises `QuotaExceeded` where the caller may have no more jobs, or not so many.

    Those that answer with a job that is there already are no new ones: what was acknowledged is answered again.
    """
    refusal = state.allowance.refusal(principal.tenant, principal.user, len(new))
    if refusal is None:
        return
    known = await state.committer.read(lambda store: _known(store, principal, new))
    if known == len(new):
        return
    refusal = state.allowance.refusal(principal.tenant, principal.user, len(new) - known)
    if refusal is not None:
        raise refusal


def demand_retry(state: State, job: Job) -> None:
    """Raises `QuotaExceeded` where the job's owner may not have it queued again."""
    refusal = state.allowance.refusal(job.definition.tenant, job.definition.user, 1)
    if refusal is not None:
        raise refusal


def _known(store: Store, principal: Principal, new: Sequence[NewJob]) -> int:
    """How many of the jobs are there already."""
    tenant, user = principal.tenant, principal.user
    ids = {one.definition.request_id for one in new if one.definition.request_id}
    lenient = [one for one in new if one.on_conflict is ConflictPolicy.RETURN_EXISTING and one.definition.dedupe_key]
    keys = {one.definition.dedupe_key for one in lenient}
    requests = store.find(ByRequest(tenant, user, tuple(ids)), len(ids)) if ids else []
    holders = store.find(ByDedupe(tenant, user, tuple(keys)), len(keys)) if keys else []
    there = {job.definition.request_id for job in requests}
    held = {job.definition.dedupe_key for job in holders}
    return sum(
        one.definition.request_id in there
        or (one.on_conflict is ConflictPolicy.RETURN_EXISTING and one.definition.dedupe_key in held)
        for one in new
    )


def _subject(quota: Quota) -> str:
    return f"{quota.tenant}/{quota.user}" if quota.user else quota.tenant or "*"


def _runs_scheduler(principal: Principal) -> bool:
    return (principal.tenant, principal.role) == (FIRST_TENANT, Role.ADMIN)


def _demand_runner(principal: Principal) -> None:
    if not _runs_scheduler(principal):
        raise Forbidden(what=f"change quotas: only admins of the tenant {FIRST_TENANT} may")


def _count(store: Store, now: int, items: Sequence[None]) -> list[Counted | TowpathError]:
    counted = Counted(store.usage())
    return [counted for _ in items]


COUNT: Verb[None, Counted] = Verb("count", _count, rank=LAST)
