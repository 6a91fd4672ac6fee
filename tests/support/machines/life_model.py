"""The life of one job as the contract tells it: the table of states, the two budgets, the clocks.

A model, not the code: of the product only the names of states and outcomes are used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from support.machines.life_words import FINAL, FORCE_MARGIN, OFFER_TTL, Held, Refused
from towpath_server.core.job import AttemptOutcome, FailureCause, JobState, Priority, RetryPolicy, Timeouts

S, Outcome = JobState, AttemptOutcome


@dataclass(kw_only=True)
class Life:
    """A job. `rank` orders the jobs of one priority; `late` is the token whose result still counts without a lease."""

    job_id: int
    owner: tuple[str, str]
    queue: str
    job_type: str
    cpu: int
    request_id: str
    body: str
    limits: Timeouts
    retry: RetryPolicy
    max_lost: int
    priority: Priority
    rank: int
    born: int
    state: JobState = S.QUEUED
    queue_time: int
    start_time: int | None = None
    stall_time: int | None = None
    end_time: int | None = None
    kill_time: int | None = None
    grace: int | None = None
    attempt: int = 0
    failures: int = 0
    lost: int = 0
    lease: Held | None = None
    lease_time: int = 0
    late: str = ""
    cause: FailureCause | None = None
    tokens: list[str] = field(default_factory=list)
    deliveries: dict[int, tuple[int, AttemptOutcome | None]] = field(default_factory=dict)

    # What workers say

    def proved(self, token: str) -> bool:
        """Whether the token is that of the lease that stands."""
        return self.lease is not None and token != "" and self.lease.token == token

    def claimed(self, lease: Held, now: int) -> None:
        assert self.state is S.QUEUED
        self.attempt += 1
        self._hold(lease)
        self.tokens.append(lease.token)
        self.lease_time = now
        self._moved(S.LEASED)

    def confirmed(self, token: str) -> None:
        assert self.lease is not None
        if not self.lease.confirmed:
            self.lease.confirmed = True
            self._moved(self.state)

    def adopted(self, lease: Held) -> None:
        """Its worker goes on with it in a new session."""
        self.lease = lease
        self._moved(self.state)

    def taken_up_again(self, lease: Held, now: int) -> None:
        """It was given up for lost, and nobody else was given it: it was not lost after all."""
        assert self.state is S.QUEUED
        self.lost -= 1
        self._hold(lease)
        self.lease_time = self.start_time = self.stall_time = now
        self._moved(S.RUNNING)

    def started(self, token: str, now: int) -> None:
        if self.proved(token) and self.start_time is None:
            self._start(now)
            self._moved(S.RUNNING if self.state is S.LEASED else self.state)

    def progressed(self, token: str, now: int) -> None:
        if self.proved(token):
            if self.start_time is None:
                self._start(now)
            self.stall_time = now
            self._moved(S.RUNNING if self.state is S.LEASED else self.state)

    def succeeded(self, token: str, now: int) -> None:
        late = self.state is S.QUEUED and token != "" and token == self.late
        if not late and not self.proved(token):
            return
        worker_id, _ = self.deliveries[self.attempt]
        self.failures += 1
        self.lost -= late
        self.start_time = self.start_time or now
        self._ended(S.SUCCEEDED, now, Outcome.SUCCEEDED)
        self.deliveries[self.attempt] = (worker_id, Outcome.SUCCEEDED)

    def failed(self, token: str, now: int, *, retryable: bool) -> None:
        if not self.proved(token):
            return
        if self.state is S.CANCELLING:
            self._ended(S.CANCELLED, now, Outcome.CANCELLED)
            return
        self.failures += 1
        self.cause = FailureCause.HANDLER
        if retryable and self.failures < self.retry.max_attempts:
            self._back_off(now, Outcome.FAILED)
        else:
            self._ended(S.FAILED, now, Outcome.FAILED)

    def released(self, token: str, now: int, *, unable: bool = False) -> None:
        if not self.proved(token):
            return
        if self.state is S.CANCELLING:
            self._ended(S.CANCELLED, now, Outcome.CANCELLED)
        elif unable:
            self._lose(now)
        else:
            self._requeue(now, Outcome.RELEASED)

    def worker_lost(self, now: int) -> None:
        assert self.lease is not None
        if self.state is S.CANCELLING:
            self._ended(S.CANCELLED, now, Outcome.CANCELLED)
        elif not self.lease.confirmed:
            self._offer_lost(now)
        else:
            self._lose(now)

    # What people do

    def cancel(self, now: int, *, force: bool) -> None:
        if self.state in FINAL or (self.state is S.CANCELLING and not force):
            return
        if self.lease is None or force:
            self._ended(S.CANCELLED, now, Outcome.CANCELLED)
        else:
            self.kill_time = now + self.limits.cancel_grace + FORCE_MARGIN
            self._moved(S.CANCELLING)

    def pause(self, now: int) -> None:
        if self.state in (*FINAL, S.CANCELLING):
            raise Refused
        if self.state is not S.PAUSED:
            self._over(Outcome.RELEASED)
            self._moved(S.PAUSED)

    def resume(self, now: int) -> None:
        if self.state is not S.PAUSED:
            raise Refused
        if self.queue_time > now:
            self._moved(S.SCHEDULED)
        else:
            self.queue_time = now
            self._moved(S.QUEUED)

    def try_again(self, now: int, rank: int) -> None:
        if self.state not in FINAL:
            raise Refused
        self.failures = self.lost = 0
        self.rank, self.born, self.cause = rank, now // 1000 * 1000, None
        self._requeue(now, None)

    def update(self, priority: Priority) -> None:
        if self.state in FINAL:
            raise Refused
        self.priority = priority
        self._moved(self.state)

    # What time does

    def clocks(self) -> list[tuple[int, str]]:
        """What happens when, unless something else does first; of two at one moment the first counts."""
        limits, found = self.limits, list[tuple[int, str]]()
        if self.end_time is not None:
            return [(self.end_time + limits.ttl, "gone")]
        if self.state is S.CANCELLING:
            return [(self.kill_time or 0, "killed")]
        if limits.total is not None:
            found.append((self.born + limits.total, "total"))
        if self.state is S.SCHEDULED:
            found.append((self.queue_time, "due"))
        if self.state is S.QUEUED and limits.queue is not None:
            found.append((self.queue_time + limits.queue, "queue"))
        if self.state is S.LEASED and self.lease is not None:
            if not self.lease.confirmed:
                found.append((self.lease_time + OFFER_TTL, "offer"))
            found.append((self.lease_time + OFFER_TTL + limits.execution, "run"))
        if self.state is S.RUNNING:
            found.append(((self.start_time or 0) + limits.execution, "run"))
            if limits.stall is not None:
                found.append(((self.stall_time or 0) + limits.stall, "run"))
        return found

    def run_out(self, now: int) -> bool:
        """Its first clock has run out; False where the job goes with it."""
        _, what = min(self.clocks(), key=lambda clock: clock[0])
        running = self.state is S.RUNNING
        match what:
            case "gone":
                return False
            case "killed":
                self._ended(S.CANCELLED, now, Outcome.CANCELLED)
            case "due":
                self.queue_time = now
                self._moved(S.QUEUED)
            case "offer":
                self._offer_lost(now)
            case _:
                self.failures += running
                self.cause = FailureCause.TIMEOUT
                again = self.retry.retry_timeouts and self.failures < self.retry.max_attempts
                if running and what == "run" and again:
                    self._back_off(now, Outcome.TIMED_OUT)
                else:
                    self._ended(S.TIMED_OUT, now, Outcome.TIMED_OUT)
        return True

    @property
    def due(self) -> int | None:
        """When the first clock runs out; one that a restart put off stays so while the job stays where it is."""
        first = min((moment for moment, _ in self.clocks()), default=None)
        return first if first is None or self.grace is None else max(first, self.grace)

    def put_off(self, until: int) -> None:
        """After a restart its worker must get a word in."""
        if self.due is not None and self.due < until:
            self.grace = until

    # How

    def _start(self, now: int) -> None:
        assert self.lease is not None
        self.start_time = self.stall_time = now
        self.lease.confirmed = True

    def _hold(self, lease: Held) -> None:
        self.lease, self.late = lease, ""
        self.deliveries[self.attempt] = (lease.worker_id, None)
        self.start_time = self.stall_time = None

    def _over(self, outcome: AttemptOutcome | None) -> None:
        if self.lease is not None:
            self.deliveries[self.attempt] = (self.lease.worker_id, outcome)
        self.lease, self.late = None, ""
        self.kill_time = self.stall_time = self.start_time = None

    def _ended(self, state: JobState, now: int, outcome: AttemptOutcome) -> None:
        start_time = self.start_time
        self._over(outcome)
        self.start_time, self.end_time = start_time, now
        self._moved(state)

    def _requeue(self, now: int, outcome: AttemptOutcome | None) -> None:
        self._over(outcome)
        self.queue_time, self.end_time = now, None
        self._moved(S.QUEUED)

    def _back_off(self, now: int, outcome: AttemptOutcome) -> None:
        self._over(outcome)
        # Policies here have no jitter.
        wait = self.retry.initial_backoff * self.retry.multiplier ** (self.failures - 1)
        self.queue_time = now + int(min(wait, self.retry.max_backoff))
        self._moved(S.SCHEDULED)

    def _lose(self, now: int) -> None:
        assert self.lease is not None
        token = self.lease.token
        self.lost += 1
        if self.lost > self.max_lost:
            self.cause = FailureCause.WORKER_LOST
            self._ended(S.FAILED, now, Outcome.LOST)
            return
        self._requeue(now, Outcome.LOST)
        self.late = token

    def _offer_lost(self, now: int) -> None:
        """As far as anybody knows it was never delivered."""
        self._over(None)
        del self.deliveries[self.attempt]
        self.attempt -= 1
        self.queue_time = now
        self._moved(S.QUEUED)

    def _moved(self, state: JobState) -> None:
        if state is not self.state:
            self.grace = None
        if self.lease is not None:
            self.lease.missed = 0
        self.state = state
