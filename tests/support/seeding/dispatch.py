"""Mistakes in handing out: polls, wake-ups, order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from support.seeding.table import bug
from towpath_server.core import fairness, lifecycle
from towpath_server.core.evolve import evolve
from towpath_server.core.ids import new_id
from towpath_server.core.job import Job
from towpath_server.core.records import Head
from towpath_server.scheduler import board
from towpath_server.scheduler.board import Board
from towpath_server.scheduler.sessions import Poll
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions import claim
from towpath_server.scheduler.waiters import Waiters
from towpath_server.scheduler.workers import Workers


@bug("jobs that come back wake nobody")
def lose_a_wake_up() -> Iterator[None]:
    with patch.object(Waiters, "wake", lambda self, lane, jobs: None):
        yield


@bug("a poll that was woken and takes nothing lets nobody else know", first_seed=277)
def wake_up_is_not_passed_on() -> Iterator[None]:
    with patch.object(Workers, "_pass_on", lambda self, session: None):
        yield


@bug("a repeated poll_id is given other leases")
def hand_a_lease_twice() -> Iterator[None]:
    with patch.object(Poll, "has_failed", True):
        yield


@bug("a repeated poll_id is answered with nothing")
def lose_the_answer_of_a_poll() -> Iterator[None]:
    lease = Workers.lease

    async def forgetful(
        self: Workers, principal: Any, worker_id: int, session_id: str, poll_id: str, *more: Any
    ) -> Any:
        session = self._state.sessions.get(session_id)
        known = session.poll if session is not None else None
        if known is not None and known.poll_id == poll_id and known.task.done():
            return []
        return await lease(self, principal, worker_id, session_id, poll_id, *more)

    with patch.object(Workers, "lease", forgetful):
        yield


@bug("a job that comes back goes to the tail of its lane")
def requeue_at_the_tail() -> Iterator[None]:
    requeued = lifecycle._requeued

    def behind(job: Job, now: int, reason: str, *, last_token: str = "") -> Job:
        return evolve(requeued(job, now, reason, last_token=last_token), position=new_id(now, 0, job.position))

    with patch.object(lifecycle, "_requeued", behind):
        yield


@bug("lanes are chosen without regard to priority")
def priority_ignored() -> Iterator[None]:
    def blind(lane_id: int, head: Head) -> tuple[int, int, int]:
        return (0, head.position, lane_id)

    with patch.object(fairness, "entry_of", blind), patch.object(board, "entry_of", blind):
        yield


@bug("within a lane the newest job goes first")
def newest_first() -> Iterator[None]:
    def last(self: Any) -> Job:
        self._popped += 1
        job: Job = self._jobs.pop()
        return job

    with patch.object(claim._Line, "pop", last):
        yield


@bug("a new job of a higher priority does not raise its lane's head")
def push_ignores_priority() -> Iterator[None]:
    push = Board.push

    def lazy(self: Board, lane_id: int, head: Any) -> None:
        known = self._heads.get(lane_id)
        push(self, lane_id, head)
        if known is not None:
            self._stand(lane_id, known)

    with patch.object(Board, "push", lazy):
        yield


@bug("a claim that empties a lane takes it off the board though a job was pushed meanwhile", first_seed=9)
def board_forgets_a_push() -> Iterator[None]:
    settle = Board.settle
    with patch.object(Board, "settle", lambda self, heads, pushes: settle(self, heads, self._pushes)):
        yield


@bug("a paused queue hands out")
def paused_queue_hands_out() -> Iterator[None]:
    with patch.object(Board, "is_paused", lambda self, lane: False):
        yield


@bug("a new job is put on the board only after its commit was answered, and a poll that parks meanwhile is not woken")
def create_wakes_nobody() -> Iterator[None]:
    push = Board.push
    known = State.absorb

    def late(self: Board, lane_id: int, head: Any) -> None:
        if getattr(self, "absorbing", False):
            push(self, lane_id, head)

    def absorb(self: State, changes: Any) -> None:
        self.board.absorbing = True  # type: ignore[attr-defined]
        known(self, changes)
        self.board.absorbing = False  # type: ignore[attr-defined]

    with patch.object(Board, "push", late), patch.object(State, "absorb", absorb):
        yield
