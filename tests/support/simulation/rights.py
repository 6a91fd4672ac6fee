"""Who may what in a night: workers that are shared, quotas that change, and credentials that are made void.

All of it is drawn apart from everything else: in most seeds there is none of it, and they are as if it did not exist.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from support.simulation.network import Lost
from support.simulation.server import Contact
from support.simulation.submitter import JOB_TYPES, Submitter
from towpath_server.core.errors import TowpathError
from towpath_server.core.records import Principal, Quota, Role, Share
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.access import FIRST_TENANT

if TYPE_CHECKING:
    from support.simulation.world import World

ADMIN = Principal(9, FIRST_TENANT, "root", Role.ADMIN)
# They have no workers of their own.
GUESTS = {"acme": Principal(4, "acme", "kim", Role.SUBMITTER), "evil": Principal(5, "evil", "mal", Role.SUBMITTER)}


class Rights:
    """One seed's."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._rng = rng = random.Random(f"the rights of seed {seed}")
        plain = rng.random() < 0.6
        self._shares = not plain and rng.random() < 0.7
        self._limits = not plain and rng.random() < 0.7
        # Whether workers have tokens of their own.
        self.tokens = not plain and rng.random() < 0.6
        self._haste = rng.choice((0.5, 1.0, 2.0))
        # By tenant: a worker that is shared in any case.
        self._sure: dict[str, str] = {}
        self._owners: list[tuple[str, str]] = []

    def people(self, chosen: Sequence[Principal]) -> None:
        """Who else submits, beside these."""
        tenants = dict.fromkeys(one.tenant for one in chosen)
        for tenant in tenants if self._shares else ():
            guest = GUESTS[tenant]
            self._world.submitters.append(Submitter(self._world, guest.user, guest))
            self._owners.append((tenant, guest.user))
        self._owners += [(one.tenant, one.user) for one in chosen] + [(tenant, "") for tenant in tenants] + [("", "")]

    def share_of(self, name: str, tenant: str, job_types: tuple[str, ...]) -> Share:
        """What a worker shares that begins anew."""
        if not self._shares:
            return Share.USER
        if job_types == JOB_TYPES and self._sure.setdefault(tenant, name) == name:
            return Share.TENANT
        return self._rng.choice((Share.TENANT, Share.USER, Share.USER))

    def begin(self) -> None:
        """Let those come who change all this."""
        if self._limits:
            self._world.begin(self._bursar())
        if self.tokens:
            self._world.begin(self._remover())

    async def settle(self) -> None:
        """Some quotas stay, but none that lets nothing run."""
        quotas, contact = self._world.book.ledger.quotas, Contact(self._world)
        for owner, quota in list(quotas[-1][1].items()):
            gone = quota.max_running == 0 or self._rng.random() < 0.5
            while gone and owner in quotas[-1][1]:
                await self._ask(contact, owner, None)
                await asyncio.sleep(0.2)

    async def _bursar(self) -> None:
        rng, contact = self._rng, Contact(self._world)
        while True:
            owner = rng.choice(self._owners)
            quota = Quota(
                tenant=owner[0],
                user=owner[1],
                max_running=rng.choice((None, 0, 1, 1, 2, 3)),
                max_queued=rng.choice((None, None, 2, 4, 8)),
            )
            has_one = owner in self._world.book.ledger.quotas[-1][1]
            await self._ask(contact, owner, None if has_one and rng.random() < 0.4 else quota)
            await asyncio.sleep(rng.uniform(0.2, 4.0) * self._haste)

    async def _ask(self, contact: Contact, owner: tuple[str, str], quota: Quota | None) -> None:
        said = "no quota" if quota is None else f"{quota.max_queued} wait, {quota.max_running} run"

        async def verb(scheduler: Scheduler) -> None:
            if quota is None:
                await scheduler.quotas.delete(ADMIN, *owner)
            else:
                await scheduler.quotas.set(ADMIN, quota)

        try:
            await contact.call(verb, patience=3.0)
        except (Lost, TowpathError) as error:
            said += f": {type(error).__name__}"
        self._world.trace.step("bursar", f"{owner[0]}/{owner[1]} {said}")

    async def _remover(self) -> None:
        rng, contact = self._rng, Contact(self._world)
        while True:
            await asyncio.sleep(rng.uniform(1.0, 8.0) * self._haste)
            worker = rng.choice(self._world.workers)
            verb, said = rng.choice(((worker.remove, "removed"), (worker.revoke, "turned away")))
            try:
                await contact.call(verb, patience=3.0)
            except (Lost, TowpathError) as error:
                said += f": {type(error).__name__}"
            self._world.trace.step(worker.name, f"is to be {said}")
