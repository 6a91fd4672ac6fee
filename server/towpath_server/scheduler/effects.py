"""What a commit means for those who wait: woken polls, orders to workers, the next clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from towpath_server.core.job import Job, JobState, Lease
from towpath_server.core.records import Head
from towpath_server.scheduler.board import Board
from towpath_server.scheduler.changes import Change
from towpath_server.scheduler.messages import Directive, DirectiveType
from towpath_server.scheduler.sessions import Held, Sessions
from towpath_server.scheduler.waiters import Waiters

# Of what others changed a moment ago, while a commit here was on its way from the writer to the event loop.
MOST_NOTED = 10_000
# What to tell a worker whose lease was ended by somebody else, by where the job went.
ORDERS = {
    JobState.PAUSED: DirectiveType.PAUSE,
    JobState.CANCELLED: DirectiveType.KILL,
    JobState.TIMED_OUT: DirectiveType.KILL,
    JobState.SCHEDULED: DirectiveType.KILL,
}


class Nudge(Protocol):
    """Hears of clocks."""

    def __call__(self, due: int, /, *, final: bool) -> None:
        """One runs out at `due`; that of a `final` job ends its keep."""


class Effects:
    """Takes in what was committed."""

    def __init__(self, board: Board, waiters: Waiters, sessions: Sessions, nudge: Nudge) -> None:
        self._board = board
        self._waiters = waiters
        self._sessions = sessions
        self._nudge = nudge
        # By job: the revision up to which another scheduler is known to have changed it, the latest last.
        self._noted: dict[int, int] = {}
        # Jobs that were told to be held here by a change that was not their last: somebody must look at them again.
        self.doubted: set[int] = set()
        self.on_doubt: Callable[[], None] = lambda: None

    def note(self, job_id: int, revision: int) -> None:
        """Another scheduler has changed the job up to this revision."""
        self._noted.pop(job_id, None)
        self._noted[job_id] = revision
        if len(self._noted) > MOST_NOTED:
            del self._noted[next(iter(self._noted))]
        session = self._sessions.holder(job_id)
        if session is not None and session.held[job_id].revision < revision:
            self._doubt(job_id)

    def _doubt(self, job_id: int) -> None:
        self.doubted.add(job_id)
        self.on_doubt()

    def absorb(self, changes: Iterable[Change]) -> None:
        """Tell everybody whom the changes concern."""
        queued: Counter[int] = Counter()
        soonest: dict[bool, int] = {}
        for change in changes:
            before, after = change.before, change.after
            if after is None:
                continue
            # New jobs were pushed before their commit, so that no poll passes them by; but not those that were to run
            # later, and one of them may have become due meanwhile.
            is_new = before is None and after.definition.schedule_time is None
            if after.state is JobState.QUEUED and not is_new:
                if after.lane_id not in self._board:
                    # Another scheduler has made it, and that was not heard of yet.
                    self._board.learn(after)
                self._board.push(after.lane_id, Head(after.priority, -after.position))
                queued[after.lane_id] += 1
            self._leases(before, after, change.reported)
            if after.due_time is not None:
                final = after.end_time is not None
                soonest[final] = min(soonest.get(final, after.due_time), after.due_time)
        for final, due in soonest.items():
            self._nudge(due, final=final)
        self.offer(queued)

    def _leases(self, before: Job | None, after: Job, reported: bool) -> None:
        old = before.lease if before is not None else None
        new = after.lease
        if old is not None and (new is None or new.session_id != old.session_id):
            self._ended(after, old, reported)
        # Of what another scheduler did before this change, perhaps nothing is heard but this change.
        self.hear(after)
        if new is not None and (session := self._sessions.get(new.session_id)) is not None:
            self._sessions.hold(session, after.job_id, Held(new.token, new.confirmed, after.revision))
            if self._noted.get(after.job_id, 0) > after.revision:
                self._doubt(after.job_id)
            if after.state is JobState.CANCELLING:
                session.order(cancel_order(after, new))

    def hear(self, job: Job) -> None:
        """A job that a worker of this scheduler holds, perhaps, was changed by another one."""
        session = self._sessions.holder(job.job_id)
        if session is None or (held := session.held[job.job_id]).revision >= job.revision:
            return
        if job.lease is None or job.lease.token != held.token or job.lease.session_id != session.session_id:
            lease = Lease(held.token, session.worker.worker_id, session.session_id, held.confirmed)
            self._ended(job, lease, reported=False)
        else:
            held.revision = job.revision
            if job.state is JobState.CANCELLING:
                session.order(cancel_order(job, job.lease))

    def gone(self, job_id: int) -> None:
        """Another scheduler has deleted a job."""
        if (session := self._sessions.holder(job_id)) is not None:
            self._sessions.settle(session, job_id)

    def offer(self, waiting: Mapping[int, int]) -> None:
        """So many jobs wait in these lanes since others have changed them; their heads are known."""
        for lane_id, jobs in waiting.items():
            lane = self._board.lane(lane_id)
            if not self._board.holds_back(lane):
                self._waiters.wake(lane, jobs)

    def _ended(self, after: Job, lease: Lease, reported: bool) -> None:
        session = self._sessions.get(lease.session_id)
        if session is None:
            return
        self._sessions.settle(session, after.job_id)
        if not reported:
            order = ORDERS.get(after.state, DirectiveType.ABANDON)
            grace = after.definition.timeouts.cancel_grace if order is DirectiveType.PAUSE else 0
            session.order(Directive(order, after.job_id, lease.token, after.state_reason, grace))


def cancel_order(job: Job, lease: Lease) -> Directive:
    """The order to stop a job that is being cancelled."""
    return Directive(
        DirectiveType.CANCEL, job.job_id, lease.token, job.state_reason, job.definition.timeouts.cancel_grace
    )
