"""pgqueuer on PostgreSQL; run as a program it is the worker."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.meter import TRANSACTIONS
from bench.pace import PAYLOAD
from bench.peers.peer import EMPTY_POSTGRES, POSTGRES, Peer

DEQUEUED = 100


class Adapter(Peer):
    """Results do not come back to the submitter: it looks each 2 ms whether the job has left the queue."""

    worker = ("python", "-m", "bench.peers.pgqueuer")
    poll = 0.05

    async def open(self) -> None:
        self._connection = await asyncpg.connect(POSTGRES)
        await self._connection.execute(EMPTY_POSTGRES)
        self._queries = Queries(AsyncpgDriver(self._connection))
        await self._queries.install()

    async def close(self) -> None:
        await self._connection.close()

    async def submit(self) -> Any:
        return (await self._queries.enqueue("noop", PAYLOAD.encode()))[0]

    async def submit_many(self, jobs: int) -> None:
        await self._queries.enqueue(["noop"] * jobs, [PAYLOAD.encode()] * jobs, [0] * jobs)

    async def done(self) -> int:
        return self.sent - int(await self._connection.fetchval("select count(*) from pgqueuer"))

    async def transactions(self) -> int | None:
        return int(await self._connection.fetchval(TRANSACTIONS))

    async def result(self, handle: Any) -> None:
        while await self._connection.fetchval("select 1 from pgqueuer where id = $1", handle):
            await asyncio.sleep(0.002)


async def main() -> None:
    """Dequeue a hundred at a time."""
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(POSTGRES)))

    @queuer.entrypoint("noop")
    async def noop(job: Job) -> None:
        pass

    await queuer.run(batch_size=DEQUEUED)


if __name__ == "__main__":
    asyncio.run(main())
