"""Several schedulers over one store: each takes a number, and beats as long as it lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from towpath_server.core.errors import TowpathError
from towpath_server.core.records import Replica, Worker
from towpath_server.store.base import Store
from towpath_server.store.committer import Verb


@dataclass(frozen=True, slots=True)
class Join:
    """Somebody wants a number below `most`, the first that is free."""

    life: str
    most: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A scheduler lives; `view` is what it shows of its workers, None where that is as before."""

    mine: Replica
    view: str | None


@dataclass(frozen=True, slots=True)
class Beaten:
    """All schedulers as they are kept now. `mine` is None where somebody else has the number."""

    mine: Replica | None
    all: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Bury:
    """These do not live any more."""

    replicas: tuple[Replica, ...]


def join(store: Store, now: int, items: Sequence[Join]) -> list[Replica | TowpathError | None]:
    """Give out numbers; None where all are taken."""
    return [_join(store, now, item) for item in items]


def _join(store: Store, now: int, item: Join) -> Replica | None:
    taken = {replica.replica_id for replica in store.records(Replica)}
    # Under the number of one that is gone, sessions may wait for somebody to take them over: whoever has it is dead.
    taken |= {worker.replica_id for worker in store.records(Worker) if worker.session_id}
    for number in range(1, item.most):
        if number in taken:
            continue
        mine = Replica(replica_id=number, life=item.life, beat=0, start_time=now)
        store.put([mine], replace=False)
        # Somebody else may have been quicker by a moment.
        if _kept(store, number) == mine:
            return mine
    return None


def beat(store: Store, now: int, items: Sequence[Beat]) -> list[Beaten | TowpathError]:
    """Write that these live, those of them that still have their numbers."""
    outcomes: list[Beaten | TowpathError] = []
    for item in items:
        kept = _kept(store, item.mine.replica_id)
        mine = None
        if kept is not None and kept.life == item.mine.life:
            mine = replace(kept, beat=kept.beat + 1, view=kept.view if item.view is None else item.view)
            store.put([mine])
        outcomes.append(Beaten(mine, tuple(store.records(Replica))))
    return outcomes


def bury(store: Store, now: int, items: Sequence[Bury]) -> list[TowpathError | None]:
    """Take their numbers back, unless they have been heard of since."""
    for item in items:
        for dead in item.replicas:
            kept = _kept(store, dead.replica_id)
            if kept is not None and (kept.life, kept.beat) == (dead.life, dead.beat):
                store.remove([kept])
    return [None for _ in items]


def _kept(store: Store, replica_id: int) -> Replica | None:
    return next(iter(store.records(Replica, [(replica_id,)])), None)


JOIN = Verb("join", join)
BEAT = Verb("beat", beat)
BURY = Verb("bury", bury)
