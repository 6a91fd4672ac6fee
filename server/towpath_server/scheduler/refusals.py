"""Recording what callers were refused, in few rows however often they try: a flood must not fill the disk."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

from towpath_server.core.coalescing import Coalescing
from towpath_server.core.errors import TowpathError
from towpath_server.core.job import SECOND
from towpath_server.core.records import AuditEvent, Token
from towpath_server.log import Logger
from towpath_server.scheduler import audit
from towpath_server.scheduler.access import Access
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.recording import RECORD

log = Logger(__name__)

# How often the same is told, and how much that is not the same at a time: 144,000 rows a day (30 MB) at the worst.
SPAN = 60 * SECOND
MOST = 100
# What one tenant's tokens take of it, and all those together who have none: they come from any number of addresses.
SHARE = 20
# Whoever redeems an invitation is a worker that nobody knows yet.
_ENROLMENT = "EnrollWorker"


class _What(NamedTuple):
    action: str
    tenant: str = ""
    # By its host for logins, by its token where that is known.
    host: str = ""
    token_id: int = 0
    method: str = ""
    reason: str = ""


class Refusals:
    """Tells the first of each kind at once, and once a minute how many more there were."""

    def __init__(self, state: State, access: Access) -> None:
        self._state = state
        self._access = access
        self._counted = Coalescing(SPAN, MOST, _crowd(_What("")), SHARE, _crowd)
        # As it was first told: who, and from where.
        self._told: dict[_What, AuditEvent] = {}
        self._timer: asyncio.TimerHandle | None = None

    def login(self, method: str, secret: str | None, origin: str) -> None:
        """A call without a token, or with one that is none."""
        token = None if secret is None else self._access.of_secret(secret)
        action = audit.ENROLMENT_REFUSED if method == _ENROLMENT else audit.LOGIN_REFUSED
        token_id = 0 if token is None else token.token_id
        tenant = "" if token is None else token.tenant
        what = _What(action, tenant, _network(origin), token_id, reason=_reason(secret, token))
        self._add(what, token, origin, method)

    def role(self, method: str, secret: str, origin: str) -> None:
        """A call that this token does not allow."""
        token = self._access.of_secret(secret)
        if token is not None:
            what = _What(audit.ACCESS_REFUSED, token.tenant, token_id=token.token_id, method=method)
            self._add(what, token, origin, method)

    async def finish(self) -> None:
        """Write what was counted: the scheduler stops."""
        if self._timer is not None:
            self._timer.cancel()
        await self._write([self._again(what, count) for what, count in self._counted.all()])

    def _add(self, what: _What, who: Token | None, origin: str, method: str) -> None:
        told_as = self._counted.add(what, self._state.clock.steady())
        if told_as is None:
            return
        known = told_as is what
        event = replace(
            audit.event(self._state, None, what.action, method=method, reason=told_as.reason),
            origin=origin if known else "",
            tenant=told_as.tenant,
            user=who.user if who is not None and known else "",
            token_id=told_as.token_id,
        )
        self._told[told_as] = event
        self._begin([event])
        self._look_later()

    def _again(self, what: _What, count: int) -> AuditEvent:
        told = self._told[what]
        fresh = audit.event(self._state, None, told.action, count=count, **told.details)
        return replace(told, event_id=fresh.event_id, time=fresh.time, details=fresh.details)

    def _look_later(self) -> None:
        due = self._counted.next_due()
        if self._timer is None and due is not None:
            wait = max(due - self._state.clock.steady(), 0) / SECOND
            self._timer = asyncio.get_running_loop().call_later(wait, self._look)

    def _look(self) -> None:
        self._timer = None
        self._begin([self._again(what, count) for what, count in self._counted.due(self._state.clock.steady())])
        self._told = {what: event for what, event in self._told.items() if what in self._counted}
        self._look_later()

    def _begin(self, events: list[AuditEvent]) -> None:
        if events:
            # Whoever was refused does not wait for it, and the end of the scheduler does.
            self._state.carry_out(self._write(events))

    async def _write(self, events: list[AuditEvent]) -> None:
        try:
            await asyncio.gather(*(self._state.committer.submit(RECORD, event) for event in events))
        except TowpathError as error:
            log.warning("audit_lost", count=len(events), error=repr(error))


def _crowd(what: _What) -> _What:
    """What is refused to anybody of the same tenant, or to all those who have no token."""
    action = audit.ACCESS_REFUSED if what.tenant else audit.LOGIN_REFUSED
    return _What(action, what.tenant, reason="many others")


def _reason(secret: str | None, token: Token | None) -> str:
    if secret is None:
        return "no token"
    if token is None:
        return "unknown token"
    return "revoked" if token.revoke_time is not None else "expired"


def _network(origin: str) -> str:
    """Where a call comes from, without its port; for IPv6 the network: one machine has any number of addresses."""
    host = origin.rpartition(":")[0] or origin
    with suppress(AddressValueError):
        address = IPv6Address(host.strip("[]").partition("%")[0])
        return str(address.ipv4_mapped or (int(address) >> 64))
    return host
