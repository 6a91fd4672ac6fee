"""One seed's world: a scheduler, its workers and submitters, what goes wrong, and whether anything came of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import traceback
from collections import Counter
from collections.abc import Coroutine, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog

from support.simulation.auditor import Auditor, Violation
from support.simulation.book import Book
from support.simulation.fate import Fate
from support.simulation.grounds import Ground, HubGround, SqliteGround
from support.simulation.life import START, Life, task_factory
from support.simulation.loop import Deadlock, VirtualLoop
from support.simulation.network import Network, Weather
from support.simulation.promises import everything_ends, no_verb_breaks, who_lives_is_not_taken_for_dead
from support.simulation.recorded import Disk
from support.simulation.replica_fate import ReplicaFate, SharedFate
from support.simulation.rights import Rights
from support.simulation.server import Server
from support.simulation.submitter import JOB_TYPES, Submitter
from support.simulation.trace import Trace
from support.simulation.worker import SimulatedWorker
from towpath_server.core.job import SECOND
from towpath_server.core.records import Principal, Role
from towpath_server.scheduler import Intervals, replicas
from towpath_server.store import committer

INTERVALS = Intervals(heartbeat=1 * SECOND, lease_ttl=5 * SECOND, poll=4 * SECOND)
PRINCIPALS = (
    Principal(1, "acme", "ada", Role.SUBMITTER),
    Principal(2, "acme", "bob", Role.ADMIN),
    Principal(3, "evil", "eve", Role.ADMIN),
)
# Virtual seconds in which all must be final, once nothing goes wrong any more.
PATIENCE = 400.0
# For how long a scheduler must have been well to be sure that it is not taken for dead (microseconds).
ALIVE = replicas.DEAD + 3 * SECOND


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a seed came to."""

    seed: int
    violation: Violation | None
    steps: int
    commits: int
    digest: str
    moves: frozenset[tuple[str, str]]
    last_lines: tuple[str, ...]
    tests: str
    seen: Counter[str]

    def __str__(self) -> str:
        if self.violation is None:
            return f"seed {self.seed}: {self.steps} steps, {self.commits} commits, nothing is wrong"
        lines = "\n".join(self.last_lines)
        return (
            f"{self.violation.invariant}: {self.violation.promise}\n{self.violation.what}\n\n{lines}\n\n"
            f"Seed {self.seed}, step {self.steps}. Again: "
            f"TOWPATH_SIM_SEED={self.seed} make test ARGS={self.tests}"
        )


class World:
    """All that there is in one run."""

    def __init__(self, seed: int, ground: Ground, loop: VirtualLoop) -> None:
        self.rng = random.Random(seed)
        self.ground = ground
        self.loop = loop
        self.healed = False
        self.trace = Trace(loop.time)
        self.book = Book(INTERVALS)
        self.disk = Disk()
        self.network = Network(self.rng, Weather())
        self.auditor = Auditor(self)
        self.rights = Rights(self, seed)
        ground.clear(loop, self.rng, self.disk)
        self.servers: list[Server] = []
        if ground.is_shared:
            self.book.ledger.is_shared = True
            for number in range(self.rng.choice((2, 2, 3)) if ground.most_schedulers > 2 else self.rng.randint(1, 2)):
                self.servers.append(Server(self, f"scheduler{number + 1}"))
        else:
            self.servers.append(Server(self, "scheduler"))
        if isinstance(ground, HubGround):
            ground.hub.settled = self.book.ledger.settle
            ground.hub.seen = self.book.seen
            self.fate: Fate = ReplicaFate(self, self.rng, ground.hub)
        else:
            self.fate = (SharedFate if ground.is_shared else Fate)(self, self.rng)
        self.workers: list[SimulatedWorker] = []
        self.submitters: list[Submitter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._over: asyncio.Future[None] = loop.create_future()

    def wall(self) -> int:
        """The scheduler's wall clock (microseconds)."""
        life = self.servers[0].life
        return life.clock.wall() if life is not None else START + self.loop.microseconds

    def lives(self) -> list[Life]:
        """The schedulers that live, and have started."""
        return [server.life for server in self.servers if server.life is not None and server.life.ready]

    def taken_for_dead(self, replica_id: int) -> None:
        """Somebody says that this scheduler does not live any more."""
        since = self.loop.microseconds - ALIVE
        if self.disk.healthy_since > since or self.fate.is_troubled:
            return
        for life in self.lives():
            if life.state.replica_id == replica_id and life.is_awake_since(since):
                self.auditor.found(who_lives_is_not_taken_for_dead, life.name)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let something happen beside all else."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._failed)
        self._tasks.append(task)
        return task

    def ends(self) -> None:
        """Something is wrong: no need to go on."""
        if not self._over.done():
            self._over.set_result(None)

    def _failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.auditor.found(no_verb_breaks, "".join(traceback.format_exception(error)[-3:]))

    async def run(self) -> None:
        """A bad night, then a morning in which all is well."""
        self.loop.set_task_factory(task_factory)
        self.loop.set_exception_handler(lambda loop, context: None)
        self.loop.on_idle = self.auditor.at_rest
        self._people()
        for server in self.servers:
            await server.start(0)
        main = self.begin(self._night_and_morning())
        try:
            await asyncio.wait([main, self._over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.loop.on_idle = lambda: None
            for task in self._tasks:
                task.cancel()
            for server in self.servers:
                server.kill("the run is over")
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _people(self) -> None:
        rng = self.rng
        chosen = rng.sample(PRINCIPALS, rng.randint(1, 3))
        for principal in chosen:
            self.submitters.append(Submitter(self, principal.user, principal))
            for _ in range(rng.choice((0, 0, 1, 2, 3))):
                types = JOB_TYPES if rng.random() < 0.4 else (rng.choice(JOB_TYPES),)
                self._hire(principal, rng.randint(1, 3), types)
            # One that can do all.
            self._hire(principal, rng.randint(1, 2), JOB_TYPES)
        self.rights.people(chosen)

    def _hire(self, principal: Principal, slots: int, job_types: tuple[str, ...]) -> None:
        name = f"worker-{len(self.workers) + 1}"
        self.workers.append(SimulatedWorker(self, name, principal, slots, job_types))

    async def _night_and_morning(self) -> None:
        for worker in self.workers:
            self.begin(worker.live())
        submitting = [self.begin(submitter.live()) for submitter in self.submitters]
        before = len(self._tasks)
        self.fate.begin()
        self.rights.begin()
        troubles = self._tasks[before:]
        keeping = [self.begin(self.fate.keep_up(server)) for server in self.servers]
        await asyncio.sleep(self.rng.uniform(12.0, 28.0))
        self.trace.step("world", "all is well")
        for task in [*submitting, *troubles, *keeping]:
            task.cancel()
        await self._heal()
        await self.rights.settle()
        for submitter in self.submitters:
            await submitter.settle()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._waiting():  # noqa: ASYNC110 - virtual time costs nothing
                    await asyncio.sleep(0.5)
        if waiting := self._waiting():
            self.auditor.found(everything_ends, f"{waiting} did not end in {PATIENCE} s")
        for server in self.servers:
            await server.stop()
        store = self.ground.open(Disk(), self.auditor)
        self.auditor.opened(store)
        store.close()

    async def _heal(self) -> None:
        self.healed = True
        self.network.weather = Weather()
        self.disk.heal(self.loop.microseconds)
        for worker in self.workers:
            worker.wake()
        self.fate.heal()
        if self.ground.is_shared:
            for server in self.servers:
                await server.revive()
            # What hung in a scheduler that was frozen comes now: a queue may be paused by it.
            await asyncio.sleep(2.0)
            return
        # The clock is set right at last: what was put down for a clock that was ahead must not wait for hours.
        [server] = self.servers
        await server.stop()
        await server.start(server.most_ahead)

    def _waiting(self) -> list[str]:
        return [
            f"{self.trace.job(job.job_id)} ({job.state.name})"
            for job in self.book.ledger.jobs.values()
            if not job.state.is_final
        ]


@contextmanager
def _listening(world: World) -> Iterator[None]:
    """Without what the scheduler logs of the troubles that it is given; what it did not expect is told."""

    def hear(logger: object, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if line.get("exc_info"):
            world.auditor.found(no_verb_breaks, f"{line.get('event')}: {line.get('error')}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        processors=[hear],
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def simulate(seed: int, folder: Path, *, keep: int = 40) -> Outcome:
    """Run one seed; the outcome has its last `keep` steps."""
    return simulate_on(SqliteGround(folder), seed, keep=keep)


def simulate_replicas(seed: int, *, keep: int = 40) -> Outcome:
    """The same of several schedulers that share a store in memory."""
    return simulate_on(HubGround(), seed, keep=keep)


def simulate_on(ground: Ground, seed: int, *, keep: int = 40) -> Outcome:
    """Run one seed on this ground."""
    collecting = gc.isenabled()
    gc.disable()
    loop = VirtualLoop()
    try:
        # Who stands back for others does it in no time.
        with patch.object(committer, "PAUSES", (0.0,) * 5), asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(_run(seed, ground, loop, keep))
    finally:
        gc.collect(1)  # All that the run made is young.
        if collecting:
            gc.enable()


async def _run(seed: int, ground: Ground, loop: VirtualLoop, keep: int) -> Outcome:
    world = World(seed, ground, loop)
    with _listening(world):
        try:
            await world.run()
        except Deadlock as error:
            world.auditor.found(everything_ends, str(error))
    trace = world.trace
    return Outcome(
        seed=seed,
        violation=world.auditor.violation,
        steps=len(trace.lines),
        commits=world.book.ledger.number,
        digest=trace.digest,
        moves=frozenset(world.auditor.moves),
        last_lines=tuple(trace.lines[-keep:]),
        tests=ground.tests,
        seen=world.book.seen,
    )
