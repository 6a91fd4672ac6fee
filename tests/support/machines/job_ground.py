"""What the job machine's rules stand on: the model, the schedulers, the polls that wait, and how all are compared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hypothesis.stateful import Bundle, RuleBasedStateMachine

from support.machines.fleet_model import Fleet, Session
from support.machines.kinds import KINDS
from support.machines.life_model import Life
from support.machines.life_words import FINAL
from support.machines.running import agree
from support.machines.several import Several
from support.machines.stages import START_UP, Lived, lease_of
from support.stage import START, Stage
from towpath_server.core.errors import TowpathError
from towpath_server.core.job import Job, JobState
from towpath_server.core.records import Principal

T = TypeVar("T")
Error = type[TowpathError]
Lease = tuple[int, str]
SELDOM = 5


@dataclass(eq=False)
class Call:
    """A poll that was begun, once on each scheduler."""

    session: Session
    poll_id: str
    slots: int
    tasks: list[asyncio.Task[list[Job]]]


class Ground(RuleBasedStateMachine):
    """The model, and a scheduler over each kind of store. Jobs go by their ids, workers by their numbers."""

    jobs = Bundle("jobs")
    workers = Bundle("workers")
    # How long it takes to start (seconds), and how long passes after each verb.
    start_up = START_UP
    apart = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.lived = self.new_lives()
        self.fleet = Fleet(now=START)
        self.calls: list[Call] = []
        # By session: its latest poll, and the latest one that was answered, with its leases.
        self.latest: dict[str, str] = {}
        self.answered: dict[str, tuple[str, list[Lease]]] = {}
        self.polls = 0
        self.steps = 0
        for one in self.lived:
            self.loop.run_until_complete(one.start())
        self.fleet.pass_time(self.start_up)

    def new_lives(self) -> Sequence[Lived | Several]:
        """What is held against the model."""
        return [Lived(kind) for kind in KINDS]

    def teardown(self) -> None:
        """Stop all."""
        for one in self.lived:
            self.loop.run_until_complete(one.end())
        self.end_of(self.calls)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    # When a rule is worth its step

    def seldom(self) -> bool:
        """Whether it is time for what would otherwise end most scripts before they come far."""
        return self.steps % SELDOM == 0

    def any(self, *states: JobState) -> bool:
        """Whether a job is in one of these states."""
        return any(life.state in states for life in self.fleet.jobs.values())

    def waiting(self) -> int:
        """How many jobs are not final."""
        return sum(life.state not in FINAL for life in self.fleet.jobs.values())

    def held(self) -> list[int]:
        """The jobs that somebody holds, or held until they were thought lost."""
        return [life.job_id for life in self.fleet.jobs.values() if life.lease is not None or life.late]

    def served(self) -> list[Session]:
        """The sessions for which there is work."""
        return [session for session in self.fleet.living() if self.fleet.for_worker(session)]

    def idle(self) -> list[Session]:
        """The sessions for which there is none, and that do not wait for some yet."""
        waiting = [call.session for call in self.calls]
        return [one for one in self.fleet.living() if not self.fleet.for_worker(one) and one not in waiting]

    # Doing and asking

    def all(
        self,
        verb: Callable[[Stage], Awaitable[T]],
        expected: Error | None = None,
        take: Callable[[Mapping[str, T]], None] = lambda answers: None,
        *,
        ordered: bool = True,
        home: Session | None = None,
    ) -> Mapping[str, T]:
        """Do it on every scheduler: all raise what is expected, or answer. Then what they handed out is taken in.

        `home`: whose scheduler it is, where there are several over one store.
        """
        answers: dict[str, T] = {}
        errors: dict[str, object] = {}
        session_id = None if home is None else home.session_id
        for one in self.lived:
            errors[one.name] = None
            try:
                answers[one.name] = self.loop.run_until_complete(_done(verb(one.at(session_id))))
            except TowpathError as error:
                errors[one.name] = type(error)
        agree("outcome", expected, errors)
        if expected is None:
            take(answers)
        self.settle(ordered=ordered)
        for one in self.lived:
            one.hands.move(self.apart)
        self.fleet.pass_time(self.apart)
        return answers

    def ask(self, question: Callable[[Stage], Awaitable[T]]) -> Mapping[str, T]:
        """Every scheduler's answer."""
        return {one.name: self.loop.run_until_complete(_done(question(one.at(None)))) for one in self.lived}

    def named(self, given: Sequence[T]) -> Mapping[str, T]:
        """By the names of the stores."""
        return {one.name: what for one, what in zip(self.lived, given, strict=True)}

    def end_of(self, calls: Sequence[Call]) -> list[list[object]]:
        """What polls end with, errors too."""
        return [self.loop.run_until_complete(_ended(call.tasks)) for call in calls]

    # Polls

    def new_poll(self, session: Session) -> str:
        """An id for the session's next poll."""
        self.polls += 1
        self.latest[session.session_id] = f"p{self.polls}"
        return f"p{self.polls}"

    def settle(self, *, ordered: bool = True) -> None:
        """Take in what parked polls were handed. Then none is parked that could be served."""
        for number, one in enumerate(self.lived):
            self.loop.run_until_complete(one.settle(lambda number=number: self._pending(number)))  # type: ignore[misc]
        over = [call for call in self.calls if all(task.done() for task in call.tasks)]
        self.calls = [call for call in self.calls if call not in over]
        for call in over:
            self.hand_out(call.session, call.poll_id, self.named([leases(task.result()) for task in call.tasks]))
        for call in over:
            self._check_order(call, ordered)
        for call in self.calls:
            agree("a poll that has an answer", False, self.named([task.done() for task in call.tasks]))
            agree("a parked poll that could be served", [], {call.poll_id: _ids(self.fleet.for_worker(call.session))})
            agree("a parked poll of a session that lives", True, {call.poll_id: call.session.lives})

    def hand_out(self, session: Session, poll_id: str, answers: Mapping[str, list[Lease]]) -> None:
        """All handed out the same, and nothing that they may not."""
        handed = next(iter(answers.values()))
        agree("handed out", handed, answers)
        for job_id, token in handed:
            life = self.fleet.jobs[job_id]
            may = life.state is JobState.QUEUED and session.lives and self.fleet.serves(session, life)
            agree(f"may hand out {job_id}", True, {poll_id: may})
            self.fleet.claim(session, job_id, token)
        self.answered[session.session_id] = (poll_id, handed)

    def _check_order(self, call: Call, ordered: bool) -> None:
        """A poll that took some got no more than it asked for, and the best of what there was."""
        _, handed = self.answered[call.session.session_id]
        agree("no more than asked for", True, {call.poll_id: len(handed) <= call.slots})
        if handed and ordered:
            worst = max(_place(self.fleet.jobs[job_id]) for job_id, _ in handed)
            left = [life for life in self.fleet.for_worker(call.session) if _place(life) < worst]
            agree("passed over", [], {call.poll_id: _ids(left)})

    def _pending(self, number: int) -> int:
        return sum(not call.tasks[number].done() for call in self.calls)


def leases(jobs: Sequence[Job]) -> list[Lease]:
    """Which leases the jobs were handed out with."""
    return [lease_of(job) for job in jobs]


def address(session: Session) -> tuple[Principal, int, str]:
    """Who speaks, for which session."""
    return (session.who, session.worker_id, session.session_id)


def _place(life: Life) -> tuple[int, int]:
    return (-life.priority, life.rank)


def _ids(lives: Sequence[Life]) -> list[int]:
    return [life.job_id for life in lives]


async def _done(asked: Awaitable[T]) -> T:
    return await asked


async def _ended(tasks: Sequence[asyncio.Task[list[Job]]]) -> list[object]:
    return [*await asyncio.gather(*tasks, return_exceptions=True)]
