"""What everybody asked for, was told, and did: what the invariants hold against the store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from support.simulation.ledger import Ledger
from towpath_server.core.job import Job
from towpath_server.scheduler import Intervals
from towpath_server.scheduler.messages import HeldLease


@dataclass(slots=True)
class Run:
    """One run of a handler on a worker."""

    job_id: int
    token: str
    worker: str


@dataclass(slots=True)
class Beginning:
    """A registration that has reached the scheduler: when, of whom, and the leases that it named."""

    steady: int
    worker_id: int
    named: frozenset[str]


@dataclass(slots=True, eq=False)
class Wait:
    """A WaitJob that the scheduler is busy with: it is to be answered when the job is past `revision`, or final."""

    job_id: int
    revision: int | None


@dataclass(slots=True, eq=False)
class Watching:
    """A WatchJob (of one job) or WatchJobs (`job_id` None) that stands, with what it was told."""

    job_id: int | None
    tenant: str
    user: str
    since: int = 0
    stands: bool = False
    told: dict[int, int] = field(default_factory=dict)


@dataclass
class Book:
    """The facts. Times are microseconds of the steady clock."""

    intervals: Intervals
    ledger: Ledger = field(default_factory=Ledger)
    life_start: int = 0
    # The last place in any lane when the present life began.
    last_position: int = 0
    # The number of the last commit of which the scheduler's memory knows, and of which the watchers were told.
    absorbed: int = 0
    answered: int = 0
    # The leases that stood when the present life began, with the states of their jobs.
    at_start: dict[str, int] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    silence: dict[str, int] = field(default_factory=dict)
    unnamed: dict[str, int] = field(default_factory=dict)
    beginnings: list[Beginning] = field(default_factory=list)
    deregistered: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    succeeded: set[str] = field(default_factory=set)
    resumed: set[int] = field(default_factory=set)
    runs: dict[str, Run] = field(default_factory=dict)
    # What each poll of a session was first answered: the tokens.
    polls: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    acknowledged: dict[int, Job] = field(default_factory=dict)
    request_jobs: dict[tuple[str, str, str], int] = field(default_factory=dict)
    retries: Counter[int] = field(default_factory=Counter)
    deletions: set[int] = field(default_factory=set)
    sweeps: list[tuple[str, int]] = field(default_factory=list)
    waits: dict[Wait, None] = field(default_factory=dict)
    watches: dict[Watching, None] = field(default_factory=dict)
    # For claims that wait for their commit: of which commit the scheduler's memory knew when it looked for lanes.
    claims: dict[str, int] = field(default_factory=dict)
    # The lanes from which somebody is about to be given jobs.
    claimed: set[int] = field(default_factory=set)

    def begins(self, steady: int) -> None:
        """A scheduler begins its life: what the one before was told and did not keep is void."""
        self.life_start = steady
        self.last_position = max((job.position for job in self.ledger.revisions.values()), default=0)
        self.absorbed = self.answered = self.ledger.number
        self.heard, self.silence, self.unnamed = {}, {}, {}
        self.beginnings, self.claims, self.polls = [], {}, {}
        self.waits, self.watches = {}, {}
        known = {worker.session_id for worker in self.ledger.workers.values() if worker.session_id}
        self.at_start = {
            job.lease.token: int(job.state)
            for job in self.ledger.jobs.values()
            if job.lease is not None and job.lease.session_id in known
        }

    def hear(self, session_id: str, steady: int) -> None:
        """The scheduler has heard of a session."""
        silence = steady - self.heard.get(session_id, self.life_start)
        self.silence[session_id] = max(silence, self.silence.get(session_id, 0))
        self.heard[session_id] = steady

    def longest_silence(self, session_id: str, steady: int) -> int:
        """For how long, at most, the present life has not heard of a session."""
        silence = steady - self.heard.get(session_id, self.life_start)
        return max(silence, self.silence.get(session_id, 0))

    def beat(self, session_id: str, held: tuple[HeldLease, ...], steady: int) -> None:
        """A heartbeat has reached the scheduler."""
        named = {lease.token for lease in held}
        for job in self.ledger.jobs.values():
            if job.lease is not None and job.lease.session_id == session_id:
                token = job.lease.token
                self.unnamed[token] = 0 if token in named else self.unnamed.get(token, 0) + 1
