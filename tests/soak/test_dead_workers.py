"""Workers that fall silent at any moment of a lease: how soon their jobs are taken back. Line 7, without allowances."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc.aio

from support import processes, soak
from support.bare_worker import STARTED, BareWorker
from towpath import AsyncClient

LEASE = 3.0
SETTINGS = ("--lease-ttl", str(LEASE), "--heartbeat-interval", "0.5")
NOTICED = 2.0


async def fall_silent(worker: BareWorker, chance: random.Random) -> tuple[str, datetime]:
    """Run a job for a while, with heartbeats, then say nothing more; the job, and when the last word was said."""
    await worker.register()
    [lease] = await worker.lease(1)
    stream = worker.stream()
    await stream.tell(lease, started=STARTED)
    for _ in range(chance.randrange(1, 6)):
        await asyncio.sleep(0.5)  # A heartbeat's interval: that is what is played here.
        said = datetime.now(UTC)
        await stream.beat([lease])
    return lease.job.job_id, said


async def lateness(at: processes.Scheduler, workers: int) -> list[timedelta]:
    """How long after each worker's last word its job was taken back."""
    chance, who = random.Random(1), (("authorization", f"Bearer {at.token}"),)
    async with grpc.aio.insecure_channel(at.address) as channel, AsyncClient(at.address, at.token) as client:
        for _ in range(workers):
            await client.submit("echo", max_lost=0)
        silent = [fall_silent(BareWorker(channel, who, "echo"), chance) for _ in range(workers)]
        took = []
        for job_id, said in await asyncio.gather(*silent):
            async for seen in client.job(job_id):
                if seen.is_final:
                    break
            [lost] = await client.attempts(job_id)
            assert lost.end_time is not None
            took.append(lost.end_time - said)
        return took


def test_dead_workers_are_noticed(tmp_path: Path) -> None:
    workers = soak.scale("TOWPATH_SOAK_DEAD")
    with (
        soak.row(f"a dead worker's job is taken back within the lease and {NOTICED:g} s", "workers") as row,
        processes.scheduler(tmp_path, *SETTINGS) as at,
    ):
        took = sorted(one.total_seconds() for one in asyncio.run(lateness(at, workers)))
        row.trials = workers
        row.violations = sum(not LEASE - 0.1 <= one <= LEASE + NOTICED for one in took)
        row.note = f"lease {LEASE:g} s; taken back {took[0]:.2f} to {took[-1]:.2f} s after the last word"
