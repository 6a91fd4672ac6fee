"""One seed's world: a scheduler, its workers and submitters, what goes wrong, and whether anything came of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import traceback
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from support.simulation.auditor import Auditor, Violation
from support.simulation.book import Book
from support.simulation.fate import Fate
from support.simulation.loop import Deadlock, VirtualLoop
from support.simulation.network import Network, Weather
from support.simulation.promises import everything_ends, no_verb_breaks
from support.simulation.server import START, Server, task_factory
from support.simulation.store import Disk, SimulatedStore, empty_file
from support.simulation.submitter import JOB_TYPES, Submitter
from support.simulation.trace import Trace
from support.simulation.worker import SimulatedWorker
from towpath_server.core.job import SECOND
from towpath_server.core.records import Principal, Role
from towpath_server.scheduler import Intervals

INTERVALS = Intervals(heartbeat=1 * SECOND, lease_ttl=5 * SECOND, poll=4 * SECOND)
PRINCIPALS = (
    Principal(1, "acme", "ada", Role.SUBMITTER),
    Principal(2, "acme", "bob", Role.ADMIN),
    Principal(3, "evil", "eve", Role.ADMIN),
)
# Virtual seconds in which all must be final, once nothing goes wrong any more.
PATIENCE = 400.0


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

    def __str__(self) -> str:
        if self.violation is None:
            return f"seed {self.seed}: {self.steps} steps, {self.commits} commits, nothing is wrong"
        lines = "\n".join(self.last_lines)
        return (
            f"{self.violation.invariant}: {self.violation.promise}\n{self.violation.what}\n\n{lines}\n\n"
            f"Seed {self.seed}, step {self.steps}. Again: "
            f"TOWPATH_SIM_SEED={self.seed} make test ARGS=tests/faults/simulation/test_seeds.py"
        )


class World:
    """All that there is in one run."""

    def __init__(self, seed: int, path: Path, loop: VirtualLoop) -> None:
        self.rng = random.Random(seed)
        self.path = path
        self.loop = loop
        self.healed = False
        self.trace = Trace(loop.time)
        self.book = Book(INTERVALS)
        self.disk = Disk()
        self.network = Network(self.rng, Weather())
        self.auditor = Auditor(self)
        self.fate = Fate(self, self.rng)
        self.server = Server(self)
        self.workers: list[SimulatedWorker] = []
        self.submitters: list[Submitter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._over: asyncio.Future[None] = loop.create_future()

    def wall(self) -> int:
        """The scheduler's wall clock (microseconds)."""
        life = self.server.life
        return life.clock.wall() if life is not None else START + self.loop.microseconds

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
        await self.server.start(0)
        main = self.begin(self._night_and_morning())
        try:
            await asyncio.wait([main, self._over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.loop.on_idle = lambda: None
            for task in self._tasks:
                task.cancel()
            self.server.kill("the run is over")
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _people(self) -> None:
        rng = self.rng
        for principal in rng.sample(PRINCIPALS, rng.randint(1, 3)):
            self.submitters.append(Submitter(self, principal.user, principal))
            for _ in range(rng.choice((0, 0, 1, 2, 3))):
                types = JOB_TYPES if rng.random() < 0.4 else (rng.choice(JOB_TYPES),)
                self._hire(principal, rng.randint(1, 3), types)
            # One that can do all.
            self._hire(principal, rng.randint(1, 2), JOB_TYPES)

    def _hire(self, principal: Principal, slots: int, job_types: tuple[str, ...]) -> None:
        name = f"worker-{len(self.workers) + 1}"
        self.workers.append(SimulatedWorker(self, name, principal, slots, job_types))

    async def _night_and_morning(self) -> None:
        for worker in self.workers:
            self.begin(worker.live())
        submitting = [self.begin(submitter.live()) for submitter in self.submitters]
        before = len(self._tasks)
        self.fate.begin()
        keeping = self.begin(self.fate.keep_up())
        troubles = self._tasks[before:-1]
        await asyncio.sleep(self.rng.uniform(12.0, 28.0))
        self.trace.step("world", "all is well")
        for task in [*submitting, *troubles, keeping]:
            task.cancel()
        await self._heal()
        for submitter in self.submitters:
            await submitter.settle()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._waiting():  # noqa: ASYNC110 - virtual time costs nothing
                    await asyncio.sleep(0.5)
        if waiting := self._waiting():
            self.auditor.found(everything_ends, f"{waiting} did not end in {PATIENCE} s")
        await self.server.stop()
        store = SimulatedStore(self.path, Disk(), self.auditor)
        self.auditor.opened(store)
        store.close()

    async def _heal(self) -> None:
        self.healed = True
        self.network.weather = Weather()
        self.disk.heal(self.loop.microseconds)
        for worker in self.workers:
            worker.wake()
        # The clock is set right at last: what was put down for a clock that was ahead must not wait for hours.
        await self.server.stop()
        await self.server.start(self.server.most_ahead)

    def _waiting(self) -> list[str]:
        return [
            f"{self.trace.job(job.job_id)} ({job.state.name})"
            for job in self.book.ledger.jobs.values()
            if not job.state.is_final
        ]


@contextmanager
def _silence() -> Iterator[None]:
    """Without what the scheduler logs of the troubles that it is given."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def simulate(seed: int, folder: Path, *, keep: int = 40) -> Outcome:
    """Run one seed; the outcome has its last `keep` steps."""
    path = folder / "towpath.sqlite"
    for old in folder.glob("towpath.sqlite*"):
        old.unlink()
    path.write_bytes(empty_file())
    collecting = gc.isenabled()
    gc.disable()
    loop = VirtualLoop()
    try:
        with _silence(), asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(_run(seed, path, loop, keep))
    finally:
        gc.collect(1)  # All that the run made is young.
        if collecting:
            gc.enable()


async def _run(seed: int, path: Path, loop: VirtualLoop, keep: int) -> Outcome:
    world = World(seed, path, loop)
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
    )
