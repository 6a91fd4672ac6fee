"""What everybody asked for, was told, and did: what the invariants hold against the store."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.simulation.ledger import Ledger
from towpath_server.core.job import Job
from towpath_server.scheduler import Intervals
from towpath_server.scheduler.messages import HeldLease

if TYPE_CHECKING:
    from support.simulation.ask import Ask


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
    """A WaitJob that a scheduler is busy with: it is to be answered when the job is past `revision`, or final."""

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


@dataclass(frozen=True, slots=True)
class Known:
    """Up to which commit a scheduler's memory knows its own, and those of the others."""

    own: int
    others: int


@dataclass(frozen=True, slots=True)
class Grace:
    """The state in which a lease was taken over from a scheduler that is over, and when."""

    state: int
    since: int


@dataclass(eq=False)
class Memory:
    """What one life of a scheduler knows, and who waits at it."""

    # The last place in any lane when it began.
    last_position: int
    # Up to which of its own commits it has taken all in, and up to which of those of the others.
    absorbed: int
    heard: int
    # The commit up to which the look that is under way reads.
    looks_at: int | None = None
    # What each poll of a session was first answered: the tokens.
    polls: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    waits: dict[Wait, None] = field(default_factory=dict)
    watches: dict[Watching, None] = field(default_factory=dict)
    # For claims that wait for their commit: of what the memory knew when it looked for lanes.
    claims: dict[str, Known] = field(default_factory=dict)
    # Which quotas it goes by, or newer ones: those of this commit.
    in_force: int = 0
    # The token by which somebody asks for work.
    callers: dict[asyncio.Task[object], int] = field(default_factory=dict)
    # The lanes from which somebody is about to be given jobs.
    claimed: set[int] = field(default_factory=set)

    def begins_to_look(self) -> None:
        """Its feed asks for what the others did."""
        self.looks_at = None

    def has_looked(self) -> None:
        """All of that is taken in."""
        if self.looks_at is not None:
            self.heard = max(self.heard, self.looks_at)

    @property
    def known(self) -> Known:
        """What it knows now."""
        return Known(self.absorbed, self.heard)


@dataclass
class Book:
    """The facts. Times are microseconds of the steady clock."""

    intervals: Intervals
    ledger: Ledger = field(default_factory=Ledger)
    life_start: int = 0
    # Of the scheduler that commits now.
    memory: Memory = field(default_factory=lambda: Memory(0, 0, 0))
    # By scheduler.
    memories: dict[object, Memory] = field(default_factory=dict)
    # The leases that stood when their session was taken over from a scheduler that is over.
    graces: dict[str, Grace] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    silence: dict[str, int] = field(default_factory=dict)
    unnamed: dict[str, int] = field(default_factory=dict)
    beginnings: list[Beginning] = field(default_factory=list)
    # The leases that were given to a worker as an answer.
    handed: set[str] = field(default_factory=set)
    # What has happened, and how often: a night must be bad enough.
    seen: Counter[str] = field(default_factory=Counter)
    # Since when a session lives nowhere.
    homeless: dict[str, int] = field(default_factory=dict)
    # Who asks for more jobs, and was not answered yet.
    asks: dict[Ask, None] = field(default_factory=dict)
    deregistered: set[str] = field(default_factory=set)
    # The workers that somebody wants to be removed.
    removals: set[int] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    succeeded: set[str] = field(default_factory=set)
    resumed: set[int] = field(default_factory=set)
    runs: dict[str, Run] = field(default_factory=dict)
    acknowledged: dict[int, Job] = field(default_factory=dict)
    request_jobs: dict[tuple[str, str, str], int] = field(default_factory=dict)
    retries: Counter[int] = field(default_factory=Counter)
    deletions: set[int] = field(default_factory=set)
    sweeps: list[tuple[str, int]] = field(default_factory=list)

    def begins(self) -> Memory:
        """A scheduler begins its life: it knows all that is committed."""
        last = max((job.position for job in self.ledger.revisions.values()), default=0)
        return Memory(last, self.ledger.number, self.ledger.number, in_force=self.ledger.number)

    def begins_alone(self, steady: int) -> Memory:
        """The same of the only one: what the one before was told and did not keep is void."""
        self.life_start = steady
        self.heard, self.silence, self.unnamed = {}, {}, {}
        self.beginnings = []
        known = {worker.session_id for worker in self.ledger.workers.values() if worker.session_id}
        self.graces = {}
        for session_id in known:
            self._grant_grace(session_id, steady)
        self.memory = self.begins()
        return self.memory

    def adopted(self, session_id: str, steady: int) -> None:
        """A scheduler has taken a session over: from now on the worker has a whole lease to say a word."""
        self.heard[session_id] = steady
        self.silence.pop(session_id, None)
        self._grant_grace(session_id, steady)

    def _grant_grace(self, session_id: str, steady: int) -> None:
        for job in self.ledger.jobs.values():
            if job.lease is not None and job.lease.session_id == session_id:
                self.graces[job.lease.token] = Grace(int(job.state), steady)

    def knows(self, known: Known, number: int) -> bool:
        """Whether the scheduler that commits now knew of a commit, when it knew so much."""
        return is_known(self.ledger, self.memory, known, number)

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


def is_known(ledger: Ledger, memory: Memory, known: Known, number: int) -> bool:
    """Whether a scheduler knows of a commit that knows so much."""
    return number <= (known.own if ledger.writers.get(number) is memory else known.others)
