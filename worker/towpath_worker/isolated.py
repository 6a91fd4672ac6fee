"""The jobs of a worker that run in child processes: from lease to outcome, their models and their failures."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from towpath.v1 import worker_service_pb2
from towpath_worker import failpoints
from towpath_worker.attempt import Attempt
from towpath_worker.backoff import Backoff
from towpath_worker.executor import Executor
from towpath_worker.job_log import JobLog
from towpath_worker.log import logger
from towpath_worker.outbox import Outbox
from towpath_worker.outcomes import Outcome, Reason
from towpath_worker.pace import PATIENCE, Pace
from towpath_worker.publisher import MODEL_PATIENCE, Publisher
from towpath_worker.reports import Key

log = logger("towpath.worker")

SHUTDOWN = worker_service_pb2.RELEASE_REASON_SHUTDOWN
UNABLE = worker_service_pb2.RELEASE_REASON_UNABLE
READS_MODELS = ("predict", "list_models")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that was leased; `since` is a time of the monotonic clock."""

    lease: worker_service_pb2.Lease
    worker_id: str
    attempt: Attempt
    since: float = field(default_factory=time.monotonic)


class Isolated:
    """The jobs of one worker in its child processes. For one event loop.

    `why_not` says of a lease why its job must not begin any more, or None. `on_free` is called when a job is over.
    """

    def __init__(
        self,
        executor: Executor,
        slots: int,
        outbox: Outbox,
        publisher: Publisher,
        why_not: Callable[[Key], Reason.ValueType | None],
        on_free: Callable[[], None],
        job_log: JobLog,
    ) -> None:
        self._executor = executor
        self._job_log = job_log
        self._slots = slots
        self._pace = Pace(slots)
        self._outbox = outbox
        self._publisher = publisher
        self._why_not = why_not
        self._on_free = on_free
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._attempts: dict[Key, Attempt] = {}
        # Leased ahead: not begun, and given back if they cannot begin soon.
        self._line: dict[Key, Waiting] = {}
        self._look: asyncio.TimerHandle | None = None
        self._unable = Backoff(longest=5.0)

    def __len__(self) -> int:
        return len(self._tasks) + len(self._line)

    @property
    def room(self) -> int:
        """How many jobs to ask for now. More than there are free slots only while jobs are tiny."""
        ahead = self._pace.ahead
        room = self._slots + ahead - len(self)
        # Half of the line at once: a poll for each job would cost more than the job.
        return max(0, room) if len(self) < self._slots or 2 * room >= ahead > 0 else 0

    @property
    def has_line(self) -> bool:
        """Whether jobs wait here for those that run."""
        return bool(self._line)

    def begin(self, lease: worker_service_pb2.Lease, worker_id: str) -> None:
        """Runs a job to its outcome, which goes to the outbox."""
        attempt = Attempt(lease, self._outbox)
        if len(self._tasks) < self._slots:
            self._start(Waiting(lease, worker_id, attempt))
            return
        self._line[attempt.key] = Waiting(lease, worker_id, attempt)
        self._look_later()

    def stop(self, key: Key, grace: float, reason: Reason.ValueType, *, silent: bool = False) -> bool:
        """Asks a job to stop, and kills it after the grace in seconds. False where no child process has it."""
        if (waiting := self._line.pop(key, None)) is not None:
            waiting.attempt.finish(None if silent else worker_service_pb2.Released(reason=reason))
            self._on_free()
            return True
        if silent and key in self._attempts:
            self._attempts[key].mute()
        return self._executor.stop(key, grace, reason=reason, silent=silent)

    def give_back_line(self) -> None:
        """Gives back what was leased ahead and has not begun."""
        for key in list(self._line):
            self.stop(key, 0.0, SHUTDOWN)

    def holds(self, key: Key) -> bool:
        """Whether this lease's job is here."""
        return key in self._tasks or key in self._line

    def others(self, key: Key) -> list[Key]:
        """The leases of the same job, this one left out, that are here."""
        return [one for one in (*self._tasks, *self._line) if one[0] == key[0] and one != key]

    def keys(self) -> set[Key]:
        """The leases of all jobs here."""
        return self._tasks.keys() | self._line.keys()

    async def emptied(self) -> None:
        """Waits until nothing runs here."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    def _start(self, job: Waiting) -> None:
        key = job.attempt.key
        self._attempts[key] = job.attempt
        self._tasks[key] = asyncio.create_task(self._run(job.lease, job.worker_id, job.attempt))

    def _look_later(self) -> None:
        if self._look is None and self._line:
            self._look = asyncio.get_running_loop().call_later(PATIENCE, self._give_back_late)

    def _give_back_late(self) -> None:
        self._look = None
        late = time.monotonic() - PATIENCE
        for key, waiting in list(self._line.items()):
            if waiting.since <= late:
                # What runs is not as short as was believed: nothing more is leased ahead until it shows again.
                self._pace.ran(math.inf)
                self.stop(key, 0.0, SHUTDOWN)
        self._look_later()

    async def _run(self, lease: worker_service_pb2.Lease, worker_id: str, attempt: Attempt) -> None:
        job_id = lease.job.job_id
        try:
            if lease.job.WhichOneof("spec") in READS_MODELS:
                await self._publisher.settled(MODEL_PATIENCE)
            if (reason := self._why_not(attempt.key)) is not None:
                attempt.finish(worker_service_pb2.Released(reason=reason))
                return
            begun = time.monotonic()
            self._job_log.started(lease)
            outcome = await self._executor.run(lease, worker_id, attempt)
            took = time.monotonic() - begun
            self._pace.ran(took)
            self._job_log.ended(lease, outcome, took, attempt.usage)
            self._finish(lease, attempt, outcome)
            # Of tiny jobs there may be a thousand a second.
            say = log.info if attempt.start_told else log.debug
            say("job over", job=job_id, type=lease.job.job_type, outcome=type(outcome).__name__)
            if isinstance(outcome, worker_service_pb2.Released) and outcome.reason == UNABLE:
                await self._unable.wait(at_least=1.0)
            else:
                self._unable.reset()
        except Exception as error:
            log.exception("job could not be run", job=job_id)
            attempt.finish(worker_service_pb2.Released(reason=UNABLE, message=f"A bug in the worker: {error!r}"))
        finally:
            del self._tasks[attempt.key], self._attempts[attempt.key]
            if self._line and len(self._tasks) < self._slots:
                self._start(self._line.pop(next(iter(self._line))))
            self._on_free()

    def _finish(self, lease: worker_service_pb2.Lease, attempt: Attempt, outcome: Outcome | None) -> None:
        training = lease.job.WhichOneof("spec") == "train"
        if training:
            failpoints.reach("model.staged")
        failpoints.reach("outcome.before")
        attempt.finish(outcome)
        told = self._outbox.holds(attempt.key)
        if training and told and isinstance(outcome, worker_service_pb2.Succeeded):
            self._publisher.wait_for_ack(attempt.key, listed=outcome.result.HasField("train"))
        elif training:
            self._publisher.discard(attempt.key)
