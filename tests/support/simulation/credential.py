"""What a worker proves itself by: in some nights a token of its own, which may be made void."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from support.simulation.server import Contact
from towpath_server.core.errors import Unauthenticated
from towpath_server.core.records import Principal, Role, Share
from towpath_server.scheduler import Scheduler

if TYPE_CHECKING:
    from support.simulation.world import World


class Credential:
    """One worker's."""

    def __init__(self, world: World, owner: Principal) -> None:
        self._world = world
        self._owner = replace(owner, share=Share.TENANT)
        self._secret: str | None = None
        self.token_id: int | None = None

    async def obtain(self, contact: Contact, name: str) -> None:
        """Get one where it has none."""
        if self._secret is None and self._world.rights.tokens:
            token, self._secret = await contact.call(
                lambda s: s.access.issue(self._owner.tenant, self._owner.user, name, Role.WORKER, share=Share.TENANT)
            )
            self.token_id = token.token_id

    def lose(self) -> None:
        """It is void."""
        self._secret = self.token_id = None

    def shown(self, scheduler: Scheduler) -> Principal:
        """Who calls. Raises `Unauthenticated`."""
        return self._owner if self._secret is None else scheduler.access.authenticate(self._secret)

    async def proved(self, scheduler: Scheduler) -> Principal:
        """The same where another scheduler may have made it: as rpc/auth.py looks again."""
        try:
            return self.shown(scheduler)
        except Unauthenticated:
            if not await scheduler.catch_up():
                raise
            return self.shown(scheduler)
