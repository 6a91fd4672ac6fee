"""procrastinate on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import procrastinate
import psycopg

from bench.meter import TRANSACTIONS
from bench.pace import PAYLOAD
from bench.peers.peer import EMPTY_POSTGRES, POSTGRES, Peer

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=POSTGRES), import_paths=["bench.peers.procrastinate"]
)


@app.task(queue="default", name="bench.noop")
async def noop(payload: str) -> int:
    """Nothing."""
    return 0


class Adapter(Peer):
    """Thirty at once. Results are not kept: the submitter looks each 2 ms whether the job succeeded."""

    worker = ("procrastinate", "--app", "bench.peers.procrastinate.app", "worker", "-c", "30")
    poll = 0.05

    async def open(self) -> None:
        self._connection = await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True)
        await self._connection.execute(EMPTY_POSTGRES.encode())
        await app.open_async()
        await app.schema_manager.apply_schema_async()

    async def close(self) -> None:
        await app.close_async()
        await self._connection.close()

    async def submit(self) -> Any:
        return await noop.defer_async(payload=PAYLOAD)

    async def submit_many(self, jobs: int) -> None:
        await noop.batch_defer_async(*({"payload": PAYLOAD} for _ in range(jobs)))

    async def done(self) -> int:
        return int(await self._value("select count(*) from procrastinate_jobs where status = 'succeeded'"))

    async def transactions(self) -> int | None:
        return int(await self._value(TRANSACTIONS))

    async def result(self, handle: Any) -> None:
        while await self._value("select status from procrastinate_jobs where id = %s", handle) != "succeeded":
            await asyncio.sleep(0.002)

    async def _value(self, query: str, *parameters: Any) -> Any:
        row = await (await self._connection.execute(query.encode(), parameters)).fetchone()
        return row[0] if row else None
