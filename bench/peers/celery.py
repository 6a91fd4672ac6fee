"""celery on redis."""

from __future__ import annotations

from typing import Any

import redis
from celery import Celery

from bench.pace import CHILDREN, PAYLOAD
from bench.peers.peer import REDIS_PORT, WAIT_SECONDS, Peer, redis_url

BROKER, RESULTS = 8, 9
app = Celery("bench.peers.celery", broker=redis_url(BROKER), backend=redis_url(RESULTS))
app.conf.update(broker_connection_retry_on_startup=True)


@app.task
def noop(payload: str) -> int:
    """Nothing."""
    return 0


class Adapter(Peer):
    """A parent and its prefork children."""

    worker = (
        *("celery", "-A", "bench.peers.celery", "worker", "-P", "prefork", "-c", str(CHILDREN), "-l", "WARNING"),
        *("--without-gossip", "--without-mingle"),
    )

    async def open(self) -> None:
        self._results = redis.Redis(port=REDIS_PORT, db=RESULTS)

    async def submit(self) -> Any:
        return noop.delay(PAYLOAD)

    async def done(self) -> int:
        return int(self._results.dbsize())

    async def result(self, handle: Any) -> None:
        handle.get(timeout=WAIT_SECONDS)
