"""What a worker has still to tell, as worker/towpath_worker/outbox.py keeps it: numbered when sent, kept till acked."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from towpath_server.core.events import Failed, Released, Succeeded
from towpath_server.scheduler.messages import HeldLease, Report, WorkerEvent

OUTCOMES = (Succeeded, Failed, Released)


class Spool:
    """Outcomes on the worker's disk: what a death of its process leaves."""

    def __init__(self) -> None:
        self.reports: list[Report] = []


class Outbox:
    """The reports of one process, in order."""

    def __init__(self, spool: Spool) -> None:
        self.changed = asyncio.Event()
        self._spool = spool
        self._waiting: deque[Report] = deque(spool.reports)
        self._numbered: deque[Report] = deque()
        self._sent = 0
        self._last = 0

    def add(self, job_id: int, event: WorkerEvent) -> None:
        """Something happened."""
        report = Report(0, job_id, event)
        self._waiting.append(report)
        if isinstance(event, OUTCOMES):
            self._spool.reports.append(report)
        self.changed.set()

    def take(self, most: int) -> list[Report]:
        """The next reports for the stream."""
        while self._waiting and len(self._numbered) - self._sent < most:
            self._last += 1
            self._numbered.append(replace(self._waiting.popleft(), sequence=self._last))
        batch = list(self._numbered)[self._sent : self._sent + most]
        self._sent += len(batch)
        return batch

    def acked(self, sequence: int) -> None:
        """The scheduler has all up to here."""
        while self._numbered and self._numbered[0].sequence <= sequence:
            self._numbered.popleft()
            self._sent = max(0, self._sent - 1)
        self._keep_spool()
        self.changed.set()

    def rewind(self) -> None:
        """A new stream: all that is not acked is sent again."""
        self._sent = 0
        self.changed.set()

    def renumber(self) -> None:
        """A new session: all that is not acked is sent again, from number 1."""
        while self._numbered:
            self._waiting.appendleft(replace(self._numbered.pop(), sequence=0))
        self._sent = self._last = 0
        self.changed.set()

    def drop(self, key: HeldLease) -> None:
        """Forget what waits of a lease that is void; what has a number was sent perhaps, and goes on."""
        self._waiting = deque(one for one in self._waiting if _key(one) != key)
        self._keep_spool()

    def held(self) -> dict[HeldLease, None]:
        """The leases whose outcomes are not acked."""
        mine = [*self._numbered, *self._waiting]
        return {_key(one): None for one in mine if isinstance(one.event, OUTCOMES)}

    @property
    def is_empty(self) -> bool:
        """Whether all is told."""
        return not self._waiting and not self._numbered

    def _keep_spool(self) -> None:
        held = self.held()
        self._spool.reports = [one for one in self._spool.reports if _key(one) in held]


def _key(report: Report) -> HeldLease:
    return HeldLease(report.job_id, report.event.token)
