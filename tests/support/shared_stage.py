"""Two schedulers over one store, with one clock that only the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from support.shared_memory import Hub, SharedMemoryStore
from support.stage import Hands, Stage, stage
from towpath_server.core.records import Worker
from towpath_server.scheduler import replicas
from towpath_server.scheduler.messages import Registered, Registration
from towpath_server.scheduler.state import State


@dataclass
class Replica:
    """One of them: its stage, its store, and what it keeps in memory."""

    stage: Stage
    store: SharedMemoryStore

    @property
    def state(self) -> State:
        return self.stage.scheduler.timers._state

    async def catch_up(self) -> None:
        """Know of everything that is committed."""
        await self.stage.scheduler.catch_up()

    async def look_round(self) -> None:
        """Beat, and see to the others."""
        assert self.stage.scheduler._replicas is not None
        await self.stage.scheduler._replicas.look_round()

    def kept(self, worker: Registered) -> Worker:
        """The worker's record in the store."""
        return self.store.records(Worker, [(worker.worker_id,)])[0]


@dataclass
class Pair:
    """Two of them."""

    hub: Hub
    hands: Hands
    one: Replica
    other: Replica

    async def die(self) -> None:
        """The one does nothing any more, and the other has noticed when this returns."""
        await still(self.one)
        await self.other.look_round()
        self.hands.steady += replicas.DEAD
        await self.other.look_round()


async def still(replica: Replica) -> None:
    """Let a scheduler stand still: it neither beats nor hears."""
    scheduler = replica.stage.scheduler
    assert scheduler._replicas is not None
    assert scheduler._feed is not None
    assert scheduler._replicas._task is not None
    scheduler._replicas._task.cancel()
    await scheduler._feed.stop()


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """Two started schedulers that beat only when the test says so."""
    hands = Hands()
    hub = Hub(lambda: hands.now)
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(2):
            store = hub.store()
            begun = Replica(await stack.enter_async_context(stage(store, hands)), store)
            assert begun.stage.scheduler._replicas is not None
            assert begun.stage.scheduler._replicas._task is not None
            begun.stage.scheduler._replicas._task.cancel()
            started.append(begun)
        yield Pair(hub, hands, *started)


def again(worker: Registered, **more: object) -> Registration:
    """The worker asks for a new session."""
    fields: dict[str, object] = {"name": "box", "slots": 1, "job_types": ("echo",)} | more
    return Registration(worker_id=worker.worker_id, **fields)  # type: ignore[arg-type]
