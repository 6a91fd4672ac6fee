"""Mistakes about leases and the sessions of workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from support.seeding.table import bug
from towpath_server.scheduler import connection
from towpath_server.scheduler.connection import Connection
from towpath_server.scheduler.transactions import expire, sessions
from towpath_server.scheduler.workers import Workers


@bug("a restart grants no grace to the clocks of what runs")
def forget_the_boot_grace() -> Iterator[None]:
    with patch.object(expire, "postpone", lambda job, until: job):
        yield


@bug("a restart takes all workers for silent since ever")
def workers_are_silent_at_a_restart() -> Iterator[None]:
    live = Workers._live

    def dead(self: Workers, worker: Any) -> Any:
        session = live(self, worker)
        session.deadline = self._state.clock.steady()
        return session

    with patch.object(Workers, "_live", dead):
        yield


@bug("heartbeats do not renew a lease")
def ignore_heartbeats() -> Iterator[None]:
    with patch.object(Connection, "_heard", lambda self: None):
        yield


@bug("the lease of a dead worker is never ended", first_seed=2)
def dead_sessions_live_on() -> Iterator[None]:
    async def nothing(self: Workers) -> None:
        return None

    with patch.object(Workers, "end_silent_sessions", nothing):
        yield


@bug("a lease that one heartbeat does not name is taken back")
def impatient_with_heartbeats() -> Iterator[None]:
    with patch.object(connection, "MOST_MISSED", 0):
        yield


@bug("what the session before held is left to nobody when a worker comes back")
def old_session_is_forgotten() -> Iterator[None]:
    begin, stored = sessions._begin, sessions._stored

    def without_session(store: Any, worker_id: int) -> Any:
        known = stored(store, worker_id)
        return known and replace(known, session_id="")

    def forgetful(store: Any, now: int, item: Any) -> Any:
        with patch.object(sessions, "_stored", without_session):
            return begin(store, now, replace(item, held=()))

    with patch.object(sessions, "_begin", forgetful):
        yield


@bug("a worker that comes back loses the lease of a job of which it also names an older lease", first_seed=154)
def leases_are_named_by_job() -> Iterator[None]:
    begin = sessions._begin

    def by_job(store: Any, now: int, item: Any) -> Any:
        held = tuple({lease.job_id: lease for lease in item.held}.values())
        return begin(store, now, replace(item, held=held))

    with patch.object(sessions, "_begin", by_job):
        yield
