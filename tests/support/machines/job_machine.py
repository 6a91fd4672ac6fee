"""Submitters, workers and time at random, on a model and on a scheduler over every store: all of them agree.

After every step the model's jobs and their attempts are compared with every scheduler's, and one more thing is asked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from support.machines import job_values as v
from support.machines import running
from support.machines.fleet_model import Draft
from support.machines.job_submitters import Submitters
from support.machines.job_workers import Workers
from support.machines.life_model import Life
from support.machines.running import agree
from support.machines.views import told, wanted
from support.stage import ADA, BOB, EVE
from towpath_server.core.errors import Draining
from towpath_server.core.job import AttemptOutcome
from towpath_server.core.records import Principal
from towpath_server.scheduler.messages import JobFilter

EXAMPLES, STEPS = 130, 40


class JobMachine(Submitters, Workers):
    """All rules."""

    jobs = Submitters.jobs
    workers = Workers.workers

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[int, dict[int, tuple[int, AttemptOutcome | None]]] = {}

    @initialize(target=workers)
    def register_first(self) -> int:
        return self.begin(ADA, None, ("echo", "train"), 8, ())

    @initialize(target=jobs, drafts=st.lists(v.drafts(), min_size=1, max_size=3))
    def create_first(self, drafts: list[Draft]) -> object:
        return self.submit(ADA, [replace(draft, job_type="echo", later=None) for draft in drafts])

    # Time

    @rule(seconds=v.seconds)
    def pass_time(self, seconds: float) -> None:
        silent = {session for session in self.fleet.sessions if session.lives}
        self.fleet.tick(seconds)
        silent -= {session for session in self.fleet.sessions if session.lives}
        self.all(lambda stage: stage.tick(seconds), ordered=not silent)

    @precondition(lambda self: self.seldom())
    @rule(seconds=st.sampled_from((0.001, 5, 16, 70)))
    def restart(self, seconds: float) -> None:
        """The scheduler stops, is away for so long, and starts again."""
        for one in self.lived:
            self.loop.run_until_complete(one.restart(seconds))
        for outcomes in self.end_of(self.calls):
            agree("a poll at a stop", Draining, self.named([type(outcome) for outcome in outcomes]))
        self.calls.clear()
        self.answered.clear()
        self.fleet.pass_time(seconds)
        self.fleet.restart()
        self.fleet.pass_time(self.start_up)

    # After every step

    @invariant()
    def all_agree(self) -> None:
        self.steps += 1
        self.fleet.check()
        self._compare_jobs(ADA)
        # One of the other questions after each step: all of them would take most of the time.
        match self.steps % 4:
            case 0:
                self._compare_jobs(BOB)
                self._compare_jobs(EVE)
            case 1:
                lives = self.fleet.seen_by(ADA)
                stats = self.ask(lambda stage: stage.scheduler.jobs.stats(ADA, JobFilter()))
                agree("stats", Counter(life.state for life in lives), {name: one.counts for name, one in stats.items()})
            case turn:
                self._compare_order(v.QUEUES[turn - 2])
        for life in self.fleet.jobs.values():
            if self.told.get(life.job_id) != life.deliveries:
                self.told[life.job_id] = dict(life.deliveries)
                self._compare_attempts(life)

    def _compare_jobs(self, who: Principal) -> None:
        listed = self.ask(lambda stage: stage.scheduler.jobs.find(who, JobFilter(), 1000, None, False))
        agree("jobs", wanted(self.fleet.seen_by(who)), {name: told(jobs) for name, jobs in listed.items()})

    def _compare_order(self, queue: str) -> None:
        if ("acme", queue) in self.fleet.queues:
            peeked = self.ask(lambda stage: stage.scheduler.queues.peek(ADA, queue, 0, 1000))
            order = [life.job_id for life in self.fleet.waiting(self.fleet.seen_by(ADA)) if life.queue == queue]
            agree("peek", order, {name: [job.job_id for job in jobs] for name, jobs in peeked.items()})

    def _compare_attempts(self, life: Life) -> None:
        past = self.ask(lambda stage: stage.scheduler.jobs.attempts(ADA, life.job_id))
        known = [(number, *life.deliveries[number]) for number in sorted(life.deliveries, reverse=True)]
        shown = {name: [(one.number, one.worker_id, one.outcome) for one in all_] for name, all_ in past.items()}
        agree("attempts", known, shown)


def run_job_machine(
    seed: int = running.SEED,
    examples: int = EXAMPLES,
    *,
    shrink: bool = False,
    machine: type[JobMachine] = JobMachine,
) -> str | None:
    """What went wrong in so many random scripts, or None."""
    return running.failure_of(machine, seed, examples, steps=STEPS, shrink=shrink)
