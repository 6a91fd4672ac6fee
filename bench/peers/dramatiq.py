"""dramatiq on redis, with its result middleware."""

from __future__ import annotations

from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.pace import PAYLOAD
from bench.peers.peer import REDIS_PORT, WAIT_SECONDS, Peer, redis_url

BROKER, RESULTS = 2, 3
broker = RedisBroker(url=redis_url(BROKER))
broker.add_middleware(Results(backend=RedisBackend(url=redis_url(RESULTS))))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(payload: str) -> int:
    """Nothing."""
    return 0


class Adapter(Peer):
    """One process with eight threads."""

    worker = ("dramatiq", "-p", "1", "-t", "8", "bench.peers.dramatiq")

    async def open(self) -> None:
        self._results = redis.Redis(port=REDIS_PORT, db=RESULTS)

    async def submit(self) -> Any:
        return noop.send(PAYLOAD)

    async def done(self) -> int:
        return int(self._results.dbsize())

    async def result(self, handle: Any) -> None:
        handle.get_result(block=True, timeout=WAIT_SECONDS * 1000)
