"""What submitters do to jobs, and what those who run the scheduler do to queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hypothesis import strategies as st
from hypothesis.stateful import multiple, precondition, rule

from support.machines import job_values as v
from support.machines.fleet_model import Draft
from support.machines.job_ground import Error, Ground
from support.machines.life_model import Life
from support.machines.life_words import FINAL, Refused
from support.machines.running import agree
from towpath_server.core.errors import IllegalTransition, JobNotFound, NotFinal, QueueNotFound, RequestIdReused
from towpath_server.core.job import Job, JobState, Priority
from towpath_server.core.records import Principal

MANY = 5


class StillAlive(Exception):
    """Only a final job is deleted."""


class Submitters(Ground):
    """Their rules."""

    jobs = Ground.jobs

    @precondition(lambda self: self.waiting() < MANY)
    @rule(target=jobs, who=v.submitters, draft=v.drafts())
    def create(self, who: str, draft: Draft) -> object:
        return self.submit(v.PEOPLE[who], [draft])

    @precondition(lambda self: self.waiting() < MANY)
    @rule(target=jobs, who=v.submitters, drafts=st.lists(v.drafts(), min_size=2, max_size=4))
    def create_batch(self, who: str, drafts: list[Draft]) -> object:
        return self.submit(v.PEOPLE[who], drafts)

    @precondition(lambda self: self.any(*JobState))
    @rule(job=jobs, what=v.commands, who=v.callers)
    def command(self, job: int, what: str, who: str) -> None:
        """What a submitter may want of a job, at the right time or not."""
        life = self.fleet.jobs.get(job)
        caller = v.caller(who, life.owner if life is not None else None)
        now, self.fleet.ranks = self.fleet.now, self.fleet.ranks + 1
        moves: dict[str, Callable[[Life], None]] = {
            "cancel": lambda life: life.cancel(now, force=False),
            "cancel at once": lambda life: life.cancel(now, force=True),
            "pause": lambda life: life.pause(now),
            "resume": lambda life: life.resume(now),
            "retry": lambda life: life.try_again(now, self.fleet.ranks),
            "raise": lambda life: life.update(Priority.CRITICAL),
            "lower": lambda life: life.update(Priority.LOW),
            "delete": self._delete,
        }
        expected = self._move(caller, job, moves[what])
        self.all(lambda stage: v.commanded(stage, what, caller, job), expected)

    @precondition(lambda self: self.seldom())
    @rule(who=st.sampled_from(("ada", "eve")), queue=v.queues, paused=st.booleans())
    def pause_or_resume_queue(self, who: str, queue: str, paused: bool) -> None:
        caller = v.PEOPLE[who]
        key = (caller.tenant, queue)
        if paused:
            self.fleet.queues.add(key)
            self.fleet.paused.add(key)
            self.all(lambda stage: stage.scheduler.queues.pause(caller, queue))
            return
        if key in self.fleet.queues_perhaps - self.fleet.queues:
            return
        expected = None if key in self.fleet.queues else QueueNotFound
        self.fleet.paused.discard(key)
        self.all(lambda stage: stage.scheduler.queues.resume(caller, queue), expected)

    # How

    def submit(self, who: Principal, drafts: Sequence[Draft]) -> object:
        """Create jobs on all, and take in which of them are new."""
        expected = RequestIdReused if self.fleet.conflicts(who, drafts) else None
        # Whether a refused call leaves its queues behind is left open.
        known = self.fleet.queues_perhaps if expected is not None else self.fleet.queues
        known.update((who.tenant, draft.queue) for draft in drafts)
        new = [v.new_job(draft, self.fleet.now) for draft in drafts]
        fresh = list[int]()

        def born(answers: Mapping[str, list[Job]]) -> None:
            ids = {name: [job.job_id for job in jobs] for name, jobs in answers.items()}
            first = next(iter(ids.values()))
            agree("ids", first, ids)
            for draft, job_id in zip(drafts, first, strict=True):
                known = self.fleet.asked_before(who, draft.request_id)
                if known is not None:
                    agree("the same request", known.job_id, {"schedulers": job_id})
                else:
                    self.fleet.create(who, draft, job_id)
                    fresh.append(job_id)

        self.all(lambda stage: stage.scheduler.jobs.create(who, new), expected, born)
        return multiple(*fresh)

    def _move(self, who: Principal, job: int, move: Callable[[Life], None]) -> Error | None:
        """Move the model's job; what the schedulers are to raise."""
        life = self.fleet.visible(who, job)
        if life is None:
            return JobNotFound
        try:
            move(life)
        except Refused:
            return IllegalTransition
        except StillAlive:
            return NotFinal
        return None

    def _delete(self, life: Life) -> None:
        if life.state not in FINAL:
            raise StillAlive
        del self.fleet.jobs[life.job_id]
