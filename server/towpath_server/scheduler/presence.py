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
    sessions = {session.session_id: _row(seen_here(state, session)) for session in state.sessions}
    return json.dumps({"sessions": sessions}, separators=(",", ":"))


def _row(seen: Seen) -> list[object]:
    load = seen.load
    shown = [seen.running, load.cpu_percent, load.memory_used_mb, load.free_slots, seen.last_heard, seen.draining]
    return [*shown, seen.parked]


def seen_here(state: State, session: Session) -> Seen:
    """The same of a session of this scheduler's."""
    worker = session.worker
    parked = state.waiters.parked(worker.worker_id)
    return Seen(len(session.held), session.load, session.last_heard, worker.draining, parked)


def read(others: Iterable[Replica]) -> Presence:
    """What the others show."""
    sessions: dict[str, Seen] = {}
    for replica in others:
        shown = json.loads(replica.view) if replica.view else {}
        for session_id, row in shown.get("sessions", {}).items():
            # One that is newer may show more, and one that is older less.
            running, cpu, memory, free, heard, draining, *more = row
            sessions[session_id] = Seen(running, Load(cpu, memory, free), heard, draining, *more[:1])
    return Presence(sessions)


def seen(state: State, worker: Worker) -> Seen | None:
    """The worker's session, here or elsewhere; None where it is offline."""
    session = state.sessions.of_worker(worker.worker_id)
    if session is not None:
        return seen_here(state, session)
    if worker.session_id and worker.replica_id != state.replica_id:
        return state.presence.sessions.get(worker.session_id, Seen(0, Load(), worker.connect_time, worker.draining))
    return None
