"""huey, on redis or on SQLite (which it does not fsync)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huey import RedisHuey, SqliteHuey

from bench.pace import PAYLOAD
from bench.peers.peer import NAME, WAIT_SECONDS, Peer, redis_url

if NAME == "huey-sqlite":
    queue = SqliteHuey("bench", filename=str(Path(os.environ["BENCH_FOLDER"]) / "huey.db"))
else:
    queue = RedisHuey("bench", url=redis_url(1))


@queue.task()
def noop(payload: str) -> int:
    """Nothing."""
    return 0


class Adapter(Peer):
    """Four threads; the consumer and the submitter look every few milliseconds, not as rarely as by default."""

    worker = ("huey_consumer", "bench.peers.huey.queue", "-w", "4", "-k", "thread", "-q", "-d", "0.01")

    async def submit(self) -> Any:
        return noop(PAYLOAD)

    async def done(self) -> int:
        return int(queue.result_count())

    async def result(self, handle: Any) -> None:
        handle.get(blocking=True, backoff=1.0, max_delay=0.002, timeout=WAIT_SECONDS)
