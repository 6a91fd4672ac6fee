"""What one tenant's flood costs another: submits of a quiet user alone, and beside it, in turn.

The aim is a p99 of at most three times that of the quiet user alone.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import Measure, Scale, percentile
from bench.programs import ROOT, Scheduler, scheduler, scratch
from towpath import AsyncClient
from towpath.channel import aio_channel
from towpath.v1 import job_pb2, job_service_pb2
from towpath.v1.job_service_pb2_grpc import JobServiceStub

if TYPE_CHECKING:
    from towpath.v1.job_service_pb2_grpc import JobServiceAsyncStub

KINDS = (
    ("batches", "batches of 100"),
    ("singles", "single jobs"),
    ("large", "batches of 1,000"),
    ("mixed", "batches, single jobs, lists, watches and polls"),
    ("quota", "calls beyond a quota of 120 a minute"),
)
#: The quota of the tenant that floods, where it has one: calls a minute, and jobs that wait. Refused, it asks at once.
CALLS_A_MINUTE, QUEUED = 120, 5_000
#: Of the tenant that floods.
USERS = 4
TURNS, SUBMITS = 5, 200
#: Where each takes long, so many seconds and at least so many of them are enough.
SECONDS, LEAST = 4.0, 40

KEYS = (
    Measure("flood.alone.p50", "a quiet user alone, submit p50", "ms"),
    Measure("flood.alone.p99", "a quiet user alone, submit p99", "ms"),
    *(
        measure
        for kind, words in KINDS
        for measure in (
            Measure(f"flood.{kind}.p99", f"beside another tenant's flood of {words}, submit p99", "ms"),
            Measure(f"flood.{kind}.ratio", f"beside a flood of {words}, p99 against that alone", "times"),
            Measure(f"flood.{kind}.rate", f"what a flood of {words} gets through meanwhile", "jobs/s"),
        )
    ),
)


@dataclass(frozen=True, slots=True)
class Flood:
    """A flooder's process, at rest until it is told to go."""

    process: subprocess.Popen[str]

    def tell(self, word: str) -> str:
        """Its answer to a word."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@contextmanager
def flooder(at: Scheduler, kind: str, tokens: list[str]) -> Iterator[Flood]:
    """A tenant's processes, with a token for each of its users."""
    environment = {**os.environ, "TOWPATH_TOKEN": "\n".join(tokens), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "bench.flooder", at.address, kind]
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Flood(process)
        finally:
            process.terminate()


def measure(scale: Scale) -> dict[str, float]:
    """A scheduler for each kind of flood."""
    figures: dict[str, float] = {}
    alone: list[float] = []
    for kind, _ in KINDS:
        with scratch() as folder, scheduler(folder) as at:
            quiet, flooding = asyncio.run(_tokens(at, limited=kind == "quota"))
            with ExitStack() as stack:
                flood = stack.enter_context(flooder(at, kind, flooding))
                figures |= asyncio.run(_measure(at, quiet, kind, flood, alone, scale))
    figures["flood.alone.p50"] = percentile(alone, 0.5)
    figures["flood.alone.p99"] = percentile(alone, 0.99)
    return figures


async def _tokens(at: Scheduler, *, limited: bool) -> tuple[str, list[str]]:
    """The token of a quiet user, and those of the users of another tenant."""
    async with AsyncClient(at.address, at.token) as admin:
        _, quiet = await admin.create_token("quiet", "submitter", tenant="quiet", user="quiet")
        users = [f"flood-{number}" for number in range(USERS)]
        made = [await admin.create_token(user, "admin", tenant="flood", user=user) for user in users]
        if limited:
            await admin.set_quota("flood", max_requests_per_minute=CALLS_A_MINUTE, max_queued=QUEUED)
        return quiet, [secret for _, secret in made]


async def _measure(
    at: Scheduler, token: str, kind: str, flood: Flood, all_alone: list[float], scale: Scale
) -> dict[str, float]:
    alone: list[float] = []
    beside: list[float] = []
    taken, seconds = 0, 0.0
    async with aio_channel(at.address, token) as channel:
        stub: JobServiceAsyncStub = JobServiceStub(channel)
        await _submits(stub, SUBMITS)
        for _ in range(2 if scale.quick else TURNS):
            alone += await _submits(stub, SUBMITS)
            assert await asyncio.to_thread(flood.tell, "go") == "flooding"
            begun = time.perf_counter()
            beside += await _submits(stub, SUBMITS)
            taken += int(await asyncio.to_thread(flood.tell, "stop"))
            seconds += time.perf_counter() - begun
            # What was under way is written before anybody is alone again.
            await _submits(stub, SUBMITS // 4)
    all_alone += alone
    p99 = percentile(beside, 0.99)
    return {
        f"flood.{kind}.p99": p99,
        f"flood.{kind}.ratio": p99 / percentile(alone, 0.99),
        f"flood.{kind}.rate": taken / seconds,
    }


async def _submits(stub: JobServiceAsyncStub, count: int) -> list[float]:
    """Milliseconds of one submit after the other."""
    request = job_service_pb2.CreateJobRequest(job=job_pb2.Job(custom=job_pb2.CustomSpec(type="quiet")))
    taken: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(taken) < count and (len(taken) < LEAST or time.perf_counter() < until):
        begun = time.perf_counter()
        await stub.CreateJob(request)
        taken.append((time.perf_counter() - begun) * 1e3)
    return taken
