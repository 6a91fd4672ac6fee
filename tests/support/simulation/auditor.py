"""Looks at every commit, every answer and every moment of rest, and stops the run at the first thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from support.simulation.across import ACROSS, LAG, knows_all, news_come_in_time
from support.simulation.book import Memory, Run, Wait
from support.simulation.dispatch import AFTER_DISPATCH, ON_DISPATCH
from support.simulation.invariants import ON_CHANGE
from support.simulation.ledger import Step
from support.simulation.moment import Moment
from support.simulation.promises import (
    a_cancel_is_answered_with_its_effect,
    a_lease_runs_once,
    an_ack_says_what_counts,
    logs_are_the_attempts_own,
    nothing_acknowledged_is_lost,
    polls_are_answered_once,
    requests_have_one_answer,
    what_is_told_is_committed,
)
from support.simulation.quiet import WHEN_QUIET, no_clock_is_late
from support.simulation.recorded import Recorder, Write
from support.simulation.stored import differences
from towpath_server.core.events import Failed, Released, Succeeded
from towpath_server.core.job import Attempt, Job, JobState
from towpath_server.core.records import Lane, LogChunk, Queue, Quota, Worker
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.messages import Directive, DirectiveType, Report
from towpath_server.store.base import Record, Store

if TYPE_CHECKING:
    from support.simulation.life import Life
    from support.simulation.world import World


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold: its name, what it promises, and what was seen."""

    invariant: str
    promise: str
    what: str


class Auditor(Recorder):
    """One run's."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._book = world.book
        self._ledger = world.book.ledger
        self._seen: dict[Memory, tuple[int, ...]] = {}
        # The jobs that the commit of this moment hands out.
        self._given: list[Job] = []
        self.violation: Violation | None = None
        # From which state to which jobs went.
        self.moves: dict[tuple[str, str], None] = {}

    def found(self, invariant: Callable[..., object], what: str) -> None:
        """Something is wrong; the first such thing ends the run."""
        if self.violation is None:
            self.violation = Violation(invariant.__name__, (invariant.__doc__ or "").split("\n")[0], what)
            self._world.trace.step("auditor", f"{invariant.__name__}: {what}")
            self._world.ends()

    # Commits.

    def committed(self, writes: Sequence[Write]) -> None:
        """See `Recorder`."""
        self._ledger.begin(self._book.memory)
        given = self._given = []
        for write in writes:
            write()
        for ask in self._book.asks:
            ask.look()
        for check in AFTER_DISPATCH if given else ():
            if (wrong := check(self._book, given)) is not None:
                self.found(check, wrong)

    def insert(self, jobs: Sequence[Job]) -> None:
        """See `Recorder`."""
        self._granted([job for job in jobs if job.lease is not None])
        self._ledger.told(self._world.loop.microseconds)
        for step in self._ledger.insert(jobs, self._world.loop.microseconds):
            self._look(step)

    def save(self, jobs: Sequence[Job], past: tuple[Attempt, ...]) -> None:
        """See `Recorder`."""
        self._granted([job for job in jobs if job.lease is not None and job.lease.token not in self._ledger.grants])
        self._ledger.told(self._world.loop.microseconds)
        for step in self._ledger.save(jobs, past, self._world.loop.microseconds):
            self._look(step)

    def delete(self, job_ids: Sequence[int]) -> None:
        """See `Recorder`."""
        # That a job is gone is told to nobody.
        for step in self._ledger.delete(job_ids):
            self._look(step)

    def put(self, records: Sequence[Record]) -> None:
        """See `Recorder`."""
        steady = self._world.loop.microseconds
        for record in records:
            if isinstance(record, Worker) and record.session_id:
                known = self._ledger.workers.get(record.worker_id)
                if known is None or known.replica_id == record.replica_id:
                    continue
                if known.session_id == record.session_id:
                    self._world.taken_for_dead(known.replica_id)
                    self._book.adopted(record.session_id, steady)
                self._book.seen["adopted" if known.session_id == record.session_id else "moved"] += 1
        self._ledger.put(records)
        if any(isinstance(record, Worker | Queue | Quota) for record in records):
            self._ledger.told(steady)

    def remove(self, records: Sequence[Record]) -> None:
        """See `Recorder`."""
        self._ledger.remove(records)
        self._book.seen["removed"] += sum(isinstance(record, Worker) for record in records)
        if any(isinstance(record, Worker | Quota) for record in records):
            self._ledger.told(self._world.loop.microseconds)

    def add_lanes(self, lanes: Sequence[Lane]) -> None:
        """See `Recorder`."""
        for lane in lanes:
            self._ledger.lanes.setdefault(lane.lane_id, lane)

    def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """See `Recorder`."""
        for chunk in chunks:
            if chunk.text != self._ledger.token_of.get((chunk.job_id, chunk.attempt)):
                self.found(logs_are_the_attempts_own, f"attempt {chunk.attempt} of job {chunk.job_id}: {chunk.text}")

    def _look(self, step: Step) -> None:
        at = Moment(self._world.wall(), self._world.loop.microseconds)
        for check in ON_CHANGE:
            if (wrong := check(at, self._book, step)) is not None:
                self.found(check, f"{self._show(step)}: {wrong}")
        self.moves[_state(step.before), _state(step.after)] = None
        if step.after is not None and step.after.state is JobState.SUCCEEDED:
            self._book.succeeded.add(step.after.last_token)
        self._world.trace.step("store", self._show(step))

    def _granted(self, granted: list[Job]) -> None:
        self._given += granted
        for check in ON_DISPATCH if granted else ():
            if (wrong := check(self._book, granted)) is not None:
                self.found(check, wrong)

    def _show(self, step: Step) -> str:
        job = step.after or step.before
        assert job is not None
        name = self._world.trace.job(job.job_id)
        before, after = _state(step.before), _state(step.after)
        lease = f" {self._world.trace.lease(job.lease.token)}" if job.lease is not None else ""
        return f"#{step.number} {name} {before} -> {after}{lease} a{job.attempt} f{job.attempt_count} l{job.lost_count}"

    # Answers.

    def told(self, job: Job) -> None:
        """Somebody was told of a job."""
        if self._ledger.revisions.get((job.job_id, job.revision)) != job:
            self.found(what_is_told_is_committed, f"job {job.job_id} at revision {job.revision}: {job}")

    def outlined(self, job: Job) -> None:
        """Somebody was told of a job without its spec and result."""
        stored = self._ledger.revisions.get((job.job_id, job.revision))
        if stored is None or replace(stored, definition=job.definition, result=None) != job:
            self.found(what_is_told_is_committed, f"job {job.job_id} at revision {job.revision}: {job}")

    def acknowledged(self, job: Job) -> None:
        """Somebody was told that a job was created."""
        self.told(job)
        definition = job.definition
        if job.job_id not in self._ledger.jobs and job.job_id not in self._ledger.gone:
            self.found(nothing_acknowledged_is_lost, f"job {job.job_id} is not in the store")
        self._book.acknowledged[job.job_id] = job
        if definition.request_id:
            key = (definition.tenant, definition.user, definition.request_id)
            first = self._book.request_jobs.setdefault(key, job.job_id)
            if first != job.job_id and first in self._ledger.jobs:
                self.found(requests_have_one_answer, f"{definition.request_id}: job {first}, then job {job.job_id}")

    def polled(self, scheduler: Scheduler, session_id: str, poll_id: str, jobs: list[Job], free: int) -> None:
        """The scheduler answers a poll."""
        for job in jobs:
            self.told(job)
            if job.lease is None or job.lease.session_id != session_id:
                self.found(polls_are_answered_once, f"job {job.job_id} is leased to another session")
        tokens = tuple(job.lease.token for job in jobs if job.lease is not None)
        self._book.handed.update(tokens)
        polls = self._book.memories[scheduler].polls
        first = polls.get((session_id, poll_id), ())
        if not first:
            first = polls[session_id, poll_id] = tokens
        still = {
            job.lease.token
            for job in self._ledger.jobs.values()
            if job.lease is not None and job.lease.session_id == session_id
        }
        if len(tokens) > free or not still & set(first) <= set(tokens) <= set(first):
            self.found(polls_are_answered_once, f"{poll_id}: {len(first)} leases, then {len(tokens)}")

    def reported(self, reports: Sequence[Report]) -> None:
        """Reports have reached the scheduler."""
        for report in reports:
            if isinstance(report.event, Released | Failed):
                self._book.released.add(report.event.token)

    def judged(self, reports: Sequence[Report], orders: Sequence[Directive]) -> None:
        """Reports are acked, with these orders."""
        abandoned = {order.token for order in orders if order.type is DirectiveType.ABANDON}
        for report in reports:
            if not isinstance(report.event, Succeeded):
                continue
            token = report.event.token
            job = self._ledger.jobs.get(report.job_id)
            counts = job is not None and job.state is JobState.SUCCEEDED and job.last_token == token
            if token in abandoned and counts and not self._ledger.is_removed(token):
                self.found(an_ack_says_what_counts, f"the result of {token} counts, and its worker is told to drop it")
            if token not in abandoned and token not in self._book.succeeded:
                self.found(an_ack_says_what_counts, f"the result of {token} is acked, and it does not count")

    def runs(self, run: Run) -> None:
        """A handler begins to run."""
        if run.token in self._book.runs:
            self.found(
                a_lease_runs_once, f"{run.token} runs on {run.worker} and on {self._book.runs[run.token].worker}"
            )
        grant = self._ledger.grants.get(run.token)
        if grant is None or grant.job_id != run.job_id:
            self.found(a_lease_runs_once, f"{run.token} was never granted")
        self._book.runs[run.token] = run

    def cancelled(self, job: Job) -> None:
        """A cancel was answered."""
        if not job.state.is_final and job.state is not JobState.CANCELLING:
            self.found(a_cancel_is_answered_with_its_effect, f"job {job.job_id} is {job.state.name}")

    def waited(self, wait: Wait, job: Job, late: bool) -> None:
        """A WaitJob was answered."""
        self.told(job)
        if not late and not job.state.is_final and wait.revision in (None, job.revision):
            self.found(what_is_told_is_committed, f"a wait for job {job.job_id} ended without a change")

    # Moments of rest.

    def at_rest(self) -> None:
        """Nothing more can happen at this moment."""
        for life in self._world.lives():
            if self.violation is None:
                self._look_into(life)
        if self.violation is None and self._world.ground.is_shared:
            self._look_across()

    def _look_into(self, life: Life) -> None:
        memory, now = life.memory, self._world.loop.microseconds
        if not life.is_quiet:
            return
        if not self._ledger.is_shared:
            memory.in_force = self._ledger.number
        healthy_since = max(self._world.disk.healthy_since, self._book.life_start, life.awake_since)
        if not knows_all(memory, self._ledger):
            if now - healthy_since > LAG and (wrong := news_come_in_time(life, self._book)) is not None:
                self.found(news_come_in_time, wrong)
            return
        seen = (self._ledger.number, len(life.state.waiters), len(memory.waits), len(memory.watches))
        if seen != self._seen.get(memory):
            self._seen[memory] = seen
            for check in WHEN_QUIET:
                if (wrong := check(life, self._book)) is not None:
                    self.found(check, f"{wrong} ({life.name})")
        if now - healthy_since > 3_000_000 and (wrong := no_clock_is_late(life, self._book)) is not None:
            self.found(no_clock_is_late, wrong)

    def _look_across(self) -> None:
        lives = [life for life in self._world.lives() if not life.frozen]
        if not lives or not all(life.is_quiet for life in lives):
            return
        since = max(self._world.disk.healthy_since, *(life.awake_since for life in lives))
        for check in ACROSS:
            if (wrong := check(lives, self._book, self._world.loop.microseconds, since)) is not None:
                self.found(check, wrong)

    def opened(self, store: Store) -> None:
        """The store was opened: it must say what was committed, no more and no less."""
        for check, what in differences(store, self._book):
            self.found(check, what)


def _state(job: Job | None) -> str:
    return job.state.name if job is not None else "-"
