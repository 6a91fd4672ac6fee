"""Jobs a second against payloads, workers, lanes and tenants: is there a cliff?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.figures import Measure, Scale
from bench.growth import flow
from bench.growth.queued import MINE, STORE
from bench.load import create
from bench.programs import scheduler, scratch
from towpath.v1 import job_service_pb2
from towpath_server.core.records import Role
from towpath_server.scheduler import Scheduler as Embedded
from towpath_server.store.sqlite import SqliteStore

Namer = Callable[[job_service_pb2.CreateJobRequest, int], None]

PAYLOADS = {"1k": 1 << 10, "10k": 10 << 10, "100k": 100 << 10, "1m": 1 << 20}
WORKERS = (1, 10, 100)
LANES = {"1": 1, "100": 100, "1k": 1_000, "10k": 10_000}
TENANTS = (1, 50)
JOBS, BATCH, LEASE = 20_000, 100, 256
#: Of one worker of the workers' curve: so many jobs keep a hundred of them busy.
FEW = 16
PAYLOAD_BYTES, BATCH_BYTES = 200 << 20, 2 << 20

KEYS = (
    *(Measure(f"growth.payload.{name}", f"payloads of {name}B", "jobs/s") for name in PAYLOADS),
    *(Measure(f"growth.workers.{count}", f"{count} workers of {FEW} slots", "jobs/s") for count in WORKERS),
    *(Measure(f"growth.lanes.{name}", f"{count:,} lanes by queue, backlog", "jobs/s") for name, count in LANES.items()),
    *(
        Measure(f"growth.needs.{name}", f"{count:,} lanes by requirements, backlog", "jobs/s")
        for name, count in LANES.items()
        if count > 1
    ),
    *(Measure(f"growth.tenants.{count}", f"{count} tenants, a worker each, backlog", "jobs/s") for count in TENANTS),
)


def measure(scale: Scale) -> dict[str, float]:
    """All curves, each point on a fresh scheduler."""
    jobs = scale.count(JOBS, 2 * BATCH)
    figures = {f"growth.payload.{name}": _payload(size, scale) for name, size in PAYLOADS.items()}
    figures |= {f"growth.workers.{count}": _workers(count, jobs) for count in WORKERS}
    figures |= {f"growth.lanes.{name}": _lanes(_by_queue, count, jobs) for name, count in LANES.items()}
    figures |= {f"growth.needs.{name}": _lanes(_by_needs, count, jobs) for name, count in LANES.items() if count > 1}
    return figures | {f"growth.tenants.{count}": _tenants(count, jobs) for count in TENANTS}


def _payload(size: int, scale: Scale) -> float:
    jobs = max(4, min(scale.count(JOBS), scale.count(PAYLOAD_BYTES) // size))
    requests = [create(MINE) for _ in range(jobs)]
    for request in requests:
        request.job.custom.params["value"] = "x" * size
    with scratch() as folder, scheduler(folder) as at:
        return flow.run_stream(at, 1, LEASE, flow.cut(requests, max(1, min(BATCH, BATCH_BYTES // size))))


def _workers(count: int, jobs: int) -> float:
    batches = flow.cut([create(MINE) for _ in range(jobs)], BATCH)
    with scratch() as folder, scheduler(folder) as at:
        return flow.run_stream(at, count, FEW, batches)


def _by_queue(request: job_service_pb2.CreateJobRequest, lane: int) -> None:
    request.job.queue = f"queue-{lane}"


def _by_needs(request: job_service_pb2.CreateJobRequest, lane: int) -> None:
    request.job.requirements.memory_mb = 1 + lane


def _lanes(name_lane: Namer, count: int, jobs: int) -> float:
    requests = [create(MINE) for _ in range(jobs)]
    for number, request in enumerate(requests):
        name_lane(request, number % count)
    with scratch() as folder, scheduler(folder) as at:
        return flow.run_backlog(at, 1, LEASE, {at.token: flow.cut(requests, BATCH)})


def _tenants(count: int, jobs: int) -> float:
    with scratch() as folder:
        tokens = asyncio.run(_tokens(folder / STORE, count))
        each = flow.cut([create(MINE) for _ in range(jobs)], BATCH)
        by_token = {token: each[number::count] for number, token in enumerate(tokens) if each[number::count]}
        with scheduler(folder) as at:
            return flow.run_backlog(at, len(by_token), LEASE, by_token)


async def _tokens(store: Path, tenants: int) -> Sequence[str]:
    """An admin's token of each tenant."""
    embedded = Embedded(SqliteStore(store))
    await embedded.start(first_token=False)
    names = [f"tenant-{number}" for number in range(tenants)]
    tokens = [(await embedded.access.issue(name, "ann", "bench", Role.ADMIN))[1] for name in names]
    await embedded.stop()
    return tokens
