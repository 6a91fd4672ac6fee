"""A store whose commits can be held up, and verbs that tell what they were called with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from support.store_samples import fill, job
from towpath_server.core.errors import TowpathError
from towpath_server.store.base import Matching, Store
from towpath_server.store.committer import Committer, Verb
from towpath_server.store.memory import MemoryStore

ALL = Matching(tenant="acme")


class GatedStore(MemoryStore):
    """A store whose commits wait until they are let through, and may fail then."""

    def __init__(self) -> None:
        super().__init__()
        fill(self, [])
        self.commits = 0
        self.failure: Exception | None = None
        self.arrived = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
            if threading.current_thread() is not threading.main_thread():
                self.commits += 1
                self.arrived.release()
                assert self.gate.wait(30)
                if self.failure is not None:
                    raise self.failure


@dataclass
class Calls:
    """What a verb was called with."""

    names: list[str] = field(default_factory=list)
    groups: list[list[int]] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    def verb(
        self, name: str = "insert", rank: int = 0, spoil: Callable[[int], object] = lambda item: None
    ) -> Verb[int, str]:
        """Inserts jobs by number and answers with their names; `spoil` may raise, or give the item's error."""

        def run(store: Store, now: int, items: Sequence[int]) -> list[str | TowpathError]:
            self.names.append(name)
            self.groups.append(list(items))
            self.times.append(now)
            store.insert([job(item) for item in items])
            errors = [spoil(item) for item in items]
            return [
                error if isinstance(error, TowpathError) else f"job {item}"
                for item, error in zip(items, errors, strict=True)
            ]

        return Verb(name, run, rank)


@asynccontextmanager
async def running(
    store: Store, clock: Callable[[], int] = lambda: 1, max_group: int = 1024
) -> AsyncIterator[Committer]:
    committer = Committer(store, clock, max_group=max_group)
    committer.start()
    yield committer
    await committer.stop()


@asynccontextmanager
async def held_up(store: GatedStore, committer: Committer) -> AsyncIterator[None]:
    """Keeps the writer busy with one commit, so that what is submitted inside becomes one group."""
    store.gate.clear()
    first = asyncio.create_task(committer.submit(Calls().verb("first"), 10_000))
    await asyncio.to_thread(store.arrived.acquire)
    yield
    store.gate.set()
    await first


def submit_all(committer: Committer, verb: Verb[int, str], items: Sequence[int]) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(committer.submit(verb, item)) for item in items]


def stored(store: Store) -> list[int]:
    return sorted(one.job_id for one in store.find(ALL, 10_000) if one.job_id < 10_000)
