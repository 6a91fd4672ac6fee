"""Very many workers in few processes: each registers, keeps a poll parked, and comes back after whatever breaks it.

Run as a program it is one of those processes: `python -m support.storms ADDRESS WORKERS CHANNELS`, with the token in
TOWPATH_TOKEN. It says one line when all are registered, waits for one, lets all poll, and goes on until its standard
input is closed; then it says what it saw, as one line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc
import grpc.aio

from support.bare_worker import BareWorker
from towpath import channel as channels
from towpath_worker import refusals
from towpath_worker.backoff import Backoff

# Connections that are made at once; a herd of processes on one machine needs no more to be one.
AT_ONCE = 200
WAIT = 60.0


@dataclass
class Seen:
    """What the workers of one process saw."""

    codes: Counter[str]
    jobs: Counter[str]
    registrations: int = 0


@dataclass(frozen=True)
class Start:
    """How the workers begin: registered in turns, then polling all at once."""

    turn: asyncio.Semaphore
    registered: asyncio.Semaphore
    polling: asyncio.Event


async def live(worker: BareWorker, seen: Seen, start: Start) -> None:
    """Register and poll, as a worker does, until cancelled."""
    backoff, number, known = Backoff(), 0, False
    while True:
        try:
            if not known:
                async with start.turn:
                    await worker.register()
                known = True
                seen.registrations += 1
                start.registered.release()
                await start.polling.wait()
            answer = await worker.poll(poll_id=f"poll-{number}", wait=WAIT)
        except grpc.aio.AioRpcError as error:
            known = known and not refusals.session_is_over(error)
            seen.codes[error.code().name] += 1
            await backoff.wait(refusals.retry_after(error))
        else:
            backoff.reset()
            number += 1
            seen.jobs.update(lease.job.job_id for lease in answer.leases)


async def crowd(address: str, token: str, workers: int, connections: int) -> Seen:
    """So many workers over so many connections, until standard input ends."""
    seen, start = Seen(Counter(), Counter()), Start(asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(0), asyncio.Event())
    opened = [grpc.aio.insecure_channel(address, channels.options_for(address)) for _ in range(connections)]
    who = (("authorization", f"Bearer {token}"),)
    lives = [
        asyncio.create_task(live(BareWorker(opened[number % connections], who), seen, start))
        for number in range(workers)
    ]
    for _ in lives:
        await start.registered.acquire()
    print("registered", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    start.polling.set()
    await asyncio.to_thread(sys.stdin.read)
    for one in lives:
        one.cancel()
    await asyncio.gather(*lives, return_exceptions=True)
    return seen


class Crowd:
    """The processes of a crowd, seen from the test."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self.codes: Counter[str] = Counter()
        self.jobs: Counter[str] = Counter()
        self.registrations = 0

    def registered(self) -> None:
        """Wait until all workers are registered."""
        for process in self._processes:
            line = _out(process).readline()
            assert line == "registered\n", line

    def poll(self) -> None:
        """Let them all poll."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("poll\n")
            process.stdin.flush()

    def end(self) -> None:
        """Let them go, and take in what they saw."""
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._processes:
            seen = json.loads(_out(process).readline())
            self.codes.update(seen["codes"])
            self.jobs.update(seen["jobs"])
            self.registrations += seen["registrations"]


@contextmanager
def many_workers(address: str, token: str, workers: int, connections: int, processes: int) -> Iterator[Crowd]:
    """So many workers in so many processes; workers and connections are shared out among them."""
    with ExitStack() as stack:
        yield Crowd(
            [
                stack.enter_context(_process(address, token, workers // processes, connections // processes))
                for _ in range(processes)
            ]
        )


@contextmanager
def _process(address: str, token: str, workers: int, connections: int) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "support.storms", address, str(workers), str(connections)]
    environment = {**os.environ, "TOWPATH_TOKEN": token, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _out(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def main() -> None:
    """One process of the crowd."""
    address, workers, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    seen = asyncio.run(crowd(address, os.environ["TOWPATH_TOKEN"], workers, connections))
    print(json.dumps({"codes": seen.codes, "jobs": seen.jobs, "registrations": seen.registrations}), flush=True)


if __name__ == "__main__":
    main()
