"""The job machine over stores that schedulers share: one scheduler on PostgreSQL, and two over one memory."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from support.machines.fleet_model import Draft
from support.machines.job_machine import JobMachine
from support.machines.running import agree
from support.machines.several import APART, HUB, POSTGRES, Several
from support.machines.stages import START_UP
from towpath_server.core.errors import Draining
from towpath_server.core.job import SECOND
from towpath_server.scheduler import replicas

POSTGRES_EXAMPLES, TWO_EXAMPLES, TWO_ON_POSTGRES_EXAMPLES = 8, 90, 5


class PostgresJobMachine(JobMachine):
    """The same rules over PostgreSQL."""

    def new_lives(self) -> Sequence[Several]:
        """See `Ground`."""
        return [Several(POSTGRES, 1)]


class TwoJobMachine(JobMachine):
    """The same rules, each step at one of two schedulers; a worker stays where it has registered."""

    jobs = JobMachine.jobs
    start_up = 2 * START_UP
    apart = APART
    shared = HUB

    def new_lives(self) -> Sequence[Several]:
        """See `Ground`."""
        self.several = Several(self.shared, 2)
        return [self.several]

    @initialize(seed=st.integers(0, 999))
    def draw_lots(self, seed: int) -> None:
        """Where each step is taken."""
        self.several.lots = random.Random(seed)

    @precondition(lambda self: self.calls)
    @rule(target=jobs, nth=st.integers(0, 2))
    def create_for_one_who_waits(self, nth: int) -> object:
        """Mostly it is created at one scheduler and waited for at the other."""
        return self.submit(self.calls[nth % len(self.calls)].session.who, [Draft()])

    @precondition(lambda self: self.seldom())
    @rule(which=st.integers(0, 1), dies=st.booleans())
    def replace_one(self, which: int, dies: bool) -> None:
        """One of them stops or dies, the other takes over, and a new one comes."""
        orphans = [one for one in self.fleet.living() if self.several.lives_at(one.session_id, which)]
        over = [call for call in self.calls if call.session in orphans]
        self.loop.run_until_complete(self.several.replace(which, dies=dies))
        for outcomes in self.end_of(over):
            agree("a poll at a stop", Draining, self.named([type(outcome) for outcome in outcomes]))
        self.calls = [call for call in self.calls if call not in over]
        for session in orphans:
            self.answered.pop(session.session_id, None)
        if dies:
            self.fleet.pass_time(replicas.DEAD / SECOND)
        self.fleet.restart(orphans)
        self.fleet.pass_time(START_UP)
        self.settle()


class TwoOnPostgresJobMachine(TwoJobMachine):
    """Two of them on PostgreSQL."""

    shared = POSTGRES
