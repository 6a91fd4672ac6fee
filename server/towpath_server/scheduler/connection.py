"""A worker's report stream: what it tells goes to the store in order, what it is told comes back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from towpath_server.core.errors import TowpathError
from towpath_server.core.events import Failed
from towpath_server.scheduler.messages import Directive, DirectiveType, Heartbeat, HeldLease, Report
from towpath_server.scheduler.sessions import OrderKey, Session
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.report import OUTCOMES, REPORT, Reported, ReportItem
from towpath_server.scheduler.transactions.sessions import RECOUNT, Recount

# A lease that is not named by so many heartbeats in a row is taken back.
MOST_MISSED = 2


class Connection:
    """One report stream of a session."""

    def __init__(self, state: State, session: Session) -> None:
        self._state = state
        self._session = session
        self._told: set[OrderKey] = set()
        self._unacked: deque[Reported] = deque()
        self._heard()

    def report(self, reports: Sequence[Report]) -> asyncio.Future[int]:
        """Take reports in, in the order of the calls. The future ends with the sequence up to which all is on disk."""
        self._heard()
        spread = tuple(self._spread(report) for report in reports)
        return self._state.carry_out(self._report(spread))

    def heartbeat(self, beat: Heartbeat) -> None:
        """The worker lives and holds these leases."""
        self._heard()
        session = self._session
        session.load = beat.load
        if beat.draining and not session.worker.draining and not session.over:
            session.worker = replace(session.worker, draining=True)
            self._state.keep_worker(session.worker)
        session.drop_obeyed(beat.held)
        for lease in beat.held:
            if not session.holds(lease.job_id, lease.token) and session.late.get(lease.job_id) != lease.token:
                session.order(_abandon(lease))
        fresh = tuple(
            lease
            for lease in beat.held
            if session.holds(lease.job_id, lease.token) and not session.held[lease.job_id].confirmed
        )
        forgotten = tuple(session.unnamed(beat.held, MOST_MISSED))
        if fresh or forgotten:
            self._state.carry_out(self._recount(Recount(session.session_id, fresh, forgotten)))

    async def orders(self) -> list[Directive]:
        """Wait for something to tell the worker; a new stream begins with all that still stands.

        Raises `Draining` where the scheduler stops: what is not acked by then is told to the next one.
        """
        while True:
            self._state.refuse_when_draining()
            if orders := await self._session.new_orders(self._told):
                return orders

    def with_verdicts(self, orders: Sequence[Directive], acked: int) -> list[Directive]:
        """The orders that go with this ack: ABANDON for each outcome in it that is too late, none for one that counts.

        A worker does by that what cannot be undone: it publishes a model, or deletes it.
        """
        taken: list[Reported] = []
        while self._unacked and self._unacked[0].sequence <= acked:
            taken.append(self._unacked.popleft())
        refused = dict.fromkeys(lease for outcome in taken for lease in outcome.refused)
        if not orders and not refused:
            return []
        judged = {lease for outcome in taken for lease in outcome.accepted} | refused.keys()
        others = [order for order in orders if order.type is not DirectiveType.ABANDON or _lease(order) not in judged]
        return others + [_abandon(lease) for lease in refused]

    def _heard(self) -> None:
        self._session.deadline = self._state.clock.steady() + self._state.intervals.lease_ttl
        self._session.last_heard = self._state.clock.wall()

    def _spread(self, report: Report) -> Report:
        if isinstance(report.event, Failed):
            return replace(report, event=replace(report.event, random=self._state.rng.random()))
        return report

    async def _report(self, reports: tuple[Report, ...]) -> int:
        session = self._session
        item = ReportItem(session.worker.worker_id, session.session_id, reports)
        outcome = await self._state.committer.submit(REPORT, item)
        self._state.absorb(outcome.changes)
        if outcome.accepted or outcome.refused:
            self._unacked.append(outcome)
        for lease in outcome.superseded:
            # What comes late is not taken, but the result that follows may be.
            if lease in outcome.refused or session.late.get(lease.job_id) != lease.token:
                session.order(_abandon(lease))
        for report in reports if session.late else ():
            if isinstance(report.event, OUTCOMES) and session.late.get(report.job_id) == report.event.token:
                del session.late[report.job_id]
        for job_id in outcome.logged:
            self._state.watchers.poke(job_id)
        if outcome.models:
            self._state.catalogue.add(outcome.models)
            self._state.refresh_profile(session)
        return outcome.sequence

    async def _recount(self, recount: Recount) -> None:
        try:
            outcome = await self._state.committer.submit(RECOUNT, recount)
        except TowpathError:
            # Nobody waits for it, and the next heartbeat says the same.
            return
        self._state.absorb(outcome.changes)
        for job_id in recount.forgotten:
            held = self._session.held.get(job_id)
            if held is not None and held.missed > MOST_MISSED:
                # It has ended elsewhere, and was deleted before that was heard of.
                self._state.sessions.settle(self._session, job_id)


def _abandon(lease: HeldLease) -> Directive:
    return Directive(DirectiveType.ABANDON, lease.job_id, lease.token, "the lease is over")


def _lease(order: Directive) -> HeldLease | None:
    return HeldLease(order.job_id, order.token) if order.job_id is not None else None
