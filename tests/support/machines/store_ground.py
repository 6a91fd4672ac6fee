"""What the store machine's rules stand on: the model, the stores, their readers, and how all are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from support.machines.kinds import KINDS, Kind, Opened
from support.machines.running import agree
from support.machines.store_model import Model
from support.store_samples import NOW, after, at
from support.store_samples import job as sample
from towpath_server.core.job import Definition, Job, JobState
from towpath_server.core.records import Lane
from towpath_server.store.base import Contended, IntegrityViolation, Store
from towpath_server.store.shared import SharedStore

DEFINED = {one.name for one in fields(Definition)}


class Undone(Exception):
    """What is raised in a transaction that is to be rolled back."""


class StoreGround(RuleBasedStateMachine):
    """One model, one store of each kind, and a reader of each."""

    kinds: ClassVar[tuple[Kind, ...]] = KINDS

    def __init__(self) -> None:
        super().__init__()
        self.opened = [Opened(kind) for kind in self.kinds]
        self.readers: list[Store] = [one.store.reader() for one in self.opened]
        self.model = Model()
        self.committed = Model()
        self.read: Model | None = None
        self.transactions: list[AbstractContextManager[None]] = []
        self.reading: list[AbstractContextManager[None]] = []
        self.spoiled: type[BaseException] | None = None
        self.now = NOW
        self.last_sequence = 0
        self.position = 0
        self.steps = 0

    def teardown(self) -> None:
        """Close all."""
        self.leave(self.transactions, Undone())
        self.leave(self.reading, Undone())
        for reader in self.readers:
            reader.close()
        for one in self.opened:
            one.clear_away()

    def seldom(self) -> bool:
        """Whether it is time for what tells little when it is done often."""
        return self.steps % 4 == 0

    def newborn(self, job_id: int, state: JobState, lane: Lane, born: dict[str, Any]) -> Job:
        """A new job of a lane."""
        return sample(job_id, state, of=lane, sequence=self.number(), **{"queue_time": NOW, **born})

    def moved(self, job: Job, state: JobState, changed: dict[str, Any]) -> Job:
        """The job's next revision: in another state, or final for ever unless it is retried."""
        state = JobState.QUEUED if job.state.is_final else state
        asked = {name: value for name, value in changed.items() if name in DEFINED}
        other = {name: value for name, value in changed.items() if name not in DEFINED}
        job = replace(at(job, state), sequence=self.number(), definition=replace(job.definition, **asked), **other)
        self.position -= 1
        return after(job, position=self.position if state is JobState.QUEUED else job.position)

    def number(self) -> int:
        """A number for a change, which every store gives alike that nobody shares."""
        self.last_sequence = max(self.last_sequence + 1, self.now)
        alone = [one for one in self.opened if not isinstance(one.store, SharedStore)]
        agree("sequence", self.last_sequence, {one.kind.name: one.store.sequence(self.now) for one in alone})
        return self.last_sequence

    def change(self, verb: Callable[[Any], None]) -> None:
        """Do it on all, in the transaction that is open or in one of its own."""
        model = self.model.copy()
        wanted, _ = outcome(lambda: verb(model))
        if self.transactions:
            agree("change", (wanted, None), self.outcomes(verb))
            self.spoiled = wanted
            if wanted is None:
                self.model = model
            return

        def alone(store: Store) -> None:
            with store.transaction():
                verb(store)

        agree("change", (wanted, None), self.outcomes(alone))
        if wanted is None:
            self.model = self.committed = model

    def ask(self, question: Callable[[Any], object]) -> None:
        """All answer as the model does."""
        agree("answer", (None, question(self.model)), self.outcomes(question))

    def refused(self, verb: Callable[[Any], object]) -> None:
        """It is no time for this: all say so, and nothing comes of it."""
        agree("refusal", (RuntimeError, None), self.outcomes(verb))

    def outcomes(self, verb: Callable[[Store], object]) -> dict[str, object]:
        """What each store gives or raises."""
        return self.named([outcome(lambda: verb(one.store)) for one in self.opened])  # noqa: B023

    def named(self, given: Sequence[object]) -> dict[str, object]:
        """By the names of the stores."""
        return {one.kind.name: what for one, what in zip(self.opened, given, strict=True)}

    def leave(self, entered: list[AbstractContextManager[None]], error: Exception | None) -> dict[str, object]:
        kind = type(error) if error is not None else None
        raised = [outcome(lambda: _raised(one.__exit__(kind, error, None), error))[0] for one in entered]  # noqa: B023
        entered.clear()
        return self.named(raised) if raised else {}


def _raised(swallowed: bool | None, error: Exception | None) -> None:
    if error is not None and not swallowed:
        raise error


def outcome(verb: Callable[[], object]) -> tuple[type[BaseException] | None, object]:
    """What it gives, or the class of what it raises."""
    try:
        return None, verb()
    except Contended:
        return IntegrityViolation, None
    except Exception as error:  # noqa: BLE001 - it is compared
        return type(error), None
