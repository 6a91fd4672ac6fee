"""What schedulers that share a store show each other of their workers: as JSON in the record by which they beat."""

from __future__ import annotations

import json
from collections.abc import Iterable

from towpath_server.core.records import Replica, Worker
from towpath_server.scheduler.messages import Load, Presence, Seen
from towpath_server.scheduler.sessions import Session
from towpath_server.scheduler.state import State


def write(state: State) -> str:
    """What there is to show here."""
    sessions = {session.session_id: _row(session) for session in state.sessions}
    return json.dumps({"parked": len(state.waiters), "sessions": sessions}, separators=(",", ":"))


def _row(session: Session) -> list[object]:
    load = session.load
    seen = seen_here(session)
    return [seen.running, load.cpu_percent, load.memory_used_mb, load.free_slots, seen.last_heard, seen.draining]


def seen_here(session: Session) -> Seen:
    """The same of a session of this scheduler's."""
    return Seen(len(session.held), session.load, session.last_heard, session.worker.draining)


def read(others: Iterable[Replica]) -> Presence:
    """What the others show."""
    sessions: dict[str, Seen] = {}
    parked = 0
    for replica in others:
        shown = json.loads(replica.view) if replica.view else {}
        parked += shown.get("parked", 0)
        for session_id, row in shown.get("sessions", {}).items():
            # One that is newer may show more.
            running, cpu, memory, free, heard, draining, *_ = row
            sessions[session_id] = Seen(running, Load(cpu, memory, free), heard, draining)
    return Presence(sessions, parked)


def seen(state: State, worker: Worker) -> Seen | None:
    """The worker's session, here or elsewhere; None where it is offline."""
    session = state.sessions.of_worker(worker.worker_id)
    if session is not None:
        return seen_here(session)
    if worker.session_id and worker.replica_id != state.replica_id:
        return state.presence.sessions.get(worker.session_id, Seen(0, Load(), worker.connect_time, worker.draining))
    return None
