"""What an adapter gives: how to submit to a peer, how to know that jobs are done, and which process runs them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Which of a module's variants this process measures.
NAME = os.environ.get("BENCH_PEER", "")
REDIS_PORT = int(os.environ.get("BENCH_REDIS_PORT", "0"))
#: What empties PostgreSQL of what was measured before.
EMPTY_POSTGRES = "drop schema public cascade; create schema public"
POSTGRES = os.environ.get("BENCH_POSTGRES", "")
#: How long a result is waited for.
WAIT_SECONDS = 30


def flush_redis() -> None:
    """Empty redis of what was measured before."""
    with socket.create_connection(("127.0.0.1", REDIS_PORT)) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(100).startswith(b"+OK")


def redis_url(database: int) -> str:
    """Peers keep what they store in databases of their own."""
    return f"redis://127.0.0.1:{REDIS_PORT}/{database}"


class Peer:
    """Submits no-op jobs, one by one; peers that can do more say how."""

    #: The command that runs jobs; its program is one of the environment's.
    worker: tuple[str, ...] = ()
    #: How often done jobs are counted, in seconds.
    poll = 0.02

    def __init__(self) -> None:
        #: Jobs that were submitted other than by `roundtrip`; the driver counts.
        self.sent = 0

    async def open(self) -> None:
        """Connect, and make what the peer keeps its jobs in. Redis is empty."""

    async def close(self) -> None:
        """Let go of the connections."""

    async def submit(self) -> Any:
        """A handle on a new job."""
        raise NotImplementedError

    async def submit_many(self, jobs: int) -> None:
        """So many new jobs in a batch, or else at once."""
        await asyncio.gather(*(self.submit() for _ in range(jobs)))

    async def done(self) -> int:
        """How many jobs are done: a number that grows with each job, whatever it starts from."""
        raise NotImplementedError

    async def transactions(self) -> int | None:
        """The answer of a peer's PostgreSQL to `meter.TRANSACTIONS`."""
        return None

    async def until_done(self, goal: int) -> None:
        """Returns when so many jobs are done."""
        while await self.done() < goal:
            await asyncio.sleep(self.poll)

    async def result(self, handle: Any) -> None:
        """Returns when the submitter has the job's result, as quickly as the peer's ways allow."""
        raise NotImplementedError

    async def roundtrip(self) -> None:
        """One job, until the submitter has its result."""
        await self.result(await self.submit())

    def start_worker(self) -> None:
        """The worker's process; the guard above this process ends it."""
        start(self.worker)


def start(words: tuple[str, ...]) -> None:
    """A program of the peer's environment, with its output thrown together with this process's errors."""
    program = Path(sys.executable).parent / words[0]
    subprocess.Popen([str(program), *words[1:]], stdin=subprocess.DEVNULL, stdout=sys.stderr)
