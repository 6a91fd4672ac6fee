"""What a scheduler knows, as plainly as can be: jobs, sessions of workers, paused queues, and who may see what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from support.machines.life_model import Life
from support.machines.life_words import FINAL, HELD, Held
from towpath_server.core.job import SECOND, JobState, Priority, RetryPolicy, Timeouts
from towpath_server.core.records import Principal, Role

LEASE_TTL = 15 * SECOND
MOST_MISSED = 2
S = JobState


LIMITS = {
    "usual": Timeouts(),
    "short": Timeouts(queue=20 * SECOND, execution=30 * SECOND, cancel_grace=5 * SECOND, ttl=60 * SECOND),
    "shorter": Timeouts(execution=12 * SECOND, stall=7 * SECOND, total=50 * SECOND, ttl=10 * SECOND),
    "none": Timeouts(total=11 * SECOND, cancel_grace=0, ttl=0),
}
POLICIES = {
    "once": RetryPolicy(jitter=0),
    "twice": RetryPolicy(max_attempts=2, jitter=0),
    "often": RetryPolicy(4, 4 * SECOND, 3, 20 * SECOND, 0, retry_timeouts=True),
    "at once": RetryPolicy(max_attempts=3, initial_backoff=0, jitter=0),
}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A job to create. `later` in seconds from now; limits and retry policy by name."""

    queue: str = "default"
    job_type: str = "echo"
    cpu: int = 0
    priority: Priority = Priority.NORMAL
    request_id: str = ""
    body: str = ""
    limits: str = "usual"
    retry: str = "once"
    max_lost: int = 3
    later: int | None = None

    def __repr__(self) -> str:
        plain = Draft()
        told = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        return f"Draft({', '.join(f'{name}={value!r}' for name, value in told if value != getattr(plain, name))})"


@dataclass(eq=False)
class Session:
    """A worker's session, and all leases that the worker was ever given."""

    number: int
    worker_id: int
    session_id: str
    who: Principal
    job_types: tuple[str, ...]
    cpu: int
    deadline: int
    lives: bool = True
    given: list[tuple[int, str]] = field(default_factory=list)

    @property
    def owner(self) -> tuple[str, str]:
        return (self.who.tenant, self.who.user)


@dataclass
class Fleet:
    """The whole of it. Times in microseconds."""

    now: int
    steady: int = 0
    jobs: dict[int, Life] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    paused: set[tuple[str, str]] = field(default_factory=set)
    queues: set[tuple[str, str]] = field(default_factory=set)
    queues_perhaps: set[tuple[str, str]] = field(default_factory=set)
    ranks: int = 0

    # Looking

    def visible(self, who: Principal, job_id: int) -> Life | None:
        """The job, where this caller may see it."""
        job = self.jobs.get(job_id)
        return job if job is not None and _owns(who, job) else None

    def seen_by(self, who: Principal) -> list[Life]:
        """All jobs that this caller may see, newest first."""
        return [job for _, job in sorted(self.jobs.items(), reverse=True) if _owns(who, job)]

    def waiting(self, jobs: Iterable[Life]) -> list[Life]:
        """Those that wait, in dispatch order: strict priority, then first come, first served."""
        return sorted((job for job in jobs if job.state is S.QUEUED), key=lambda job: (-job.priority, job.rank))

    def for_worker(self, session: Session) -> list[Life]:
        """What the worker may have now, best first."""
        return self.waiting(job for job in self.jobs.values() if self.serves(session, job))

    def serves(self, session: Session, job: Life) -> bool:
        """Whether the worker may run it and its queue is not paused."""
        fits = job.job_type in session.job_types and job.cpu <= session.cpu
        return fits and job.owner == session.owner and (job.owner[0], job.queue) not in self.paused

    def living(self) -> list[Session]:
        """The sessions that are not over."""
        return [session for session in self.sessions if session.lives]

    def held_by(self, session: Session) -> list[Life]:
        """The jobs that are leased under this session."""
        held = (job for job in self.jobs.values() if job.lease is not None)
        return [job for job in held if job.lease and job.lease.session_id == session.session_id]

    # Creating

    def conflicts(self, who: Principal, drafts: Sequence[Draft]) -> bool:
        """Whether a request id was used for another body, here or before."""
        bodies: dict[str, str] = {}
        for draft in drafts:
            known = self.asked_before(who, draft.request_id)
            body = bodies.setdefault(draft.request_id, known.body if known else draft.body)
            if draft.request_id and body != draft.body:
                return True
        return False

    def asked_before(self, who: Principal, request_id: str) -> Life | None:
        """The job of this request id."""
        owner = (who.tenant, who.user)
        same = (job for job in self.jobs.values() if request_id and job.request_id == request_id)
        return next((job for job in same if job.owner == owner), None)

    def create(self, who: Principal, draft: Draft, job_id: int) -> None:
        """It is there, under the id that the scheduler gave it."""
        assert job_id not in self.jobs
        self.ranks += 1
        later = draft.later is not None and draft.later > 0
        self.jobs[job_id] = Life(
            job_id=job_id,
            owner=(who.tenant, who.user),
            queue=draft.queue,
            job_type=draft.job_type,
            cpu=draft.cpu,
            request_id=draft.request_id,
            body=draft.body,
            limits=LIMITS[draft.limits],
            retry=POLICIES[draft.retry],
            max_lost=draft.max_lost,
            priority=draft.priority,
            rank=self.ranks,
            born=self.now // 1000 * 1000,
            state=S.SCHEDULED if later else S.QUEUED,
            queue_time=self.now + (draft.later or 0) * SECOND,
        )

    # Workers

    def begin(self, session: Session, old: Session | None, named: Sequence[tuple[int, str]]) -> None:
        """The worker goes on with what it names; what else it held is lost."""
        held = self.held_by(old) if old is not None and old.lives else []
        for job in held:
            assert job.lease is not None
            if (job.job_id, job.lease.token) in named:
                job.adopted(Held(job.lease.token, session.worker_id, session.session_id, confirmed=True))
            else:
                job.worker_lost(self.now)
        # Only what was lost before: what it does not name now, it does not want back.
        for job_id, token in named:
            lost = self.jobs.get(job_id)
            if lost is None or lost in held or token == "" or lost.late != token:
                continue
            if lost.deliveries[lost.attempt][0] == session.worker_id:
                lost.taken_up_again(Held(token, session.worker_id, session.session_id, confirmed=True), self.now)
        if old is not None:
            old.lives = False
            session.given = old.given
        self.sessions.append(session)

    def end(self, session: Session, *, released: bool) -> None:
        """The session is over; its jobs are given back, or lost with it."""
        session.lives = False
        for job in self.held_by(session):
            assert job.lease is not None
            if released:
                job.released(job.lease.token, self.now)
            else:
                job.worker_lost(self.now)

    def heard(self, session: Session) -> None:
        """A word on the report stream."""
        session.deadline = self.steady + LEASE_TTL

    def beat(self, session: Session, named: Sequence[tuple[int, str]]) -> None:
        """A heartbeat confirms what it names; what it leaves out three times in a row is lost."""
        self.heard(session)
        for job in self.held_by(session):
            lease = job.lease
            assert lease is not None
            if (job.job_id, lease.token) in named:
                lease.missed = 0
                job.confirmed(lease.token)
            elif lease.confirmed:
                lease.missed += 1
                if lease.missed > MOST_MISSED:
                    job.worker_lost(self.now)

    def claim(self, session: Session, job_id: int, token: str) -> None:
        """The job was handed to the worker."""
        self.jobs[job_id].claimed(Held(token, session.worker_id, session.session_id), self.now)
        session.given.append((job_id, token))

    # Time

    def tick(self, seconds: float) -> None:
        """All clocks that have run out by then, then the sessions that were silent for a whole lease."""
        self.pass_time(seconds)
        while due := [job for job in self.jobs.values() if job.due is not None and job.due <= self.now]:
            for job in due:
                if not job.run_out(self.now):
                    del self.jobs[job.job_id]
        for session in self.living():
            if session.deadline <= self.steady:
                self.end(session, released=False)

    def restart(self, sessions: Iterable[Session] | None = None) -> None:
        """Each of these, or all there are, lives for one whole lease, and no clock of its jobs runs out sooner."""
        for session in self.living() if sessions is None else sessions:
            session.deadline = self.steady + LEASE_TTL
            for job in self.held_by(session):
                job.put_off(self.now + LEASE_TTL)
                assert job.lease is not None
                job.lease.missed = 0

    def pass_time(self, seconds: float) -> None:
        """Both clocks go on."""
        self.now += int(seconds * SECOND)
        self.steady += int(seconds * SECOND)

    def check(self) -> None:
        """What holds for the model itself, whatever the product does."""
        for job in self.jobs.values():
            assert (job.lease is not None) == (job.state in HELD)
            assert (job.end_time is not None) == (job.state in FINAL)
            assert job.failures <= job.retry.max_attempts
            assert job.lost <= job.max_lost + (job.state is S.FAILED)
            assert sorted(job.deliveries) == list(range(1, job.attempt + 1))


def _owns(who: Principal, job: Life) -> bool:
    return job.owner[0] == who.tenant and (job.owner[1] == who.user or who.role is Role.ADMIN)
