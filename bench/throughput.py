"""How quick Towpath is here, now: `make bench`.

A real scheduler on SQLite with fsynced commits, driven over loopback. Rows: no-op jobs through an inline worker (a bare
protocol loop in this process: what the scheduler can do), no-op jobs through `towpath-worker` and its warm children
(what a user gets), and the latency of an idle system. Figures of a small, shared machine: compare only rows of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
from rich.console import Console
from rich.table import Table

from towpath import Client
from towpath.channel import aio_channel
from towpath.v1 import (
    auth_service_pb2,
    auth_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)

if TYPE_CHECKING:
    from towpath.v1.job_service_pb2_grpc import JobServiceAsyncStub

TESTS = Path(__file__).resolve().parent.parent / "tests"
PAYLOAD = "x" * 200
LEASE = 256


@dataclass(frozen=True)
class Row:
    """One measured line: medians over the repetitions, with the least and the most."""

    name: str
    unit: str
    median: float
    least: float
    most: float
    runs: int


@contextmanager
def programs(folder: Path, *, worker: bool) -> Iterator[tuple[str, str]]:
    """A scheduler, and where asked a worker; gives address and token."""
    with ExitStack() as stack:
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        words = [sys.executable, "-m", "towpath_server", "--listen", "127.0.0.1:0"]
        words += ["--store", f"sqlite:///{folder / 'bench.db'}", "--config-dir", str(folder)]
        server = stack.enter_context(_start(words, environment))
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        token = (folder / "token").read_text().strip() if (folder / "token").exists() else ""
        while not token:
            server.stdout.readline()
            token = (folder / "token").read_text().strip()
        if worker:
            environment |= {"TOWPATH_TOKEN": token}
            words = [sys.executable, "-m", "towpath_worker", "--server", address, "--state-dir", str(folder / "worker")]
            words += ["--handlers", "support.job_types", "--allow", "test.echo", "--slots", "2"]
            process = stack.enter_context(_start(words, environment))
            assert process.stdout is not None
            while address not in process.stdout.readline():
                pass
        yield address, token


@contextmanager
def _start(words: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@asynccontextmanager
async def inline_worker(channel: grpc.aio.Channel) -> AsyncIterator[None]:
    """The worker's protocol and nothing else: what is leased is at once reported as done."""
    stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
    me = await stub.RegisterWorker(
        worker_service_pb2.RegisterWorkerRequest(name="bench", slots=4096, job_types=["test.echo"])
    )
    stream = stub.ReportJobs()
    await stream.write(worker_service_pb2.ReportJobsRequest(worker_id=me.worker_id, session_id=me.session_id))
    result = job_pb2.JobResult(custom=job_pb2.CustomResult())
    result.custom.value.string_value = PAYLOAD

    sequences, polls = itertools.count(1), itertools.count(1)

    async def work() -> None:
        while True:
            leased = await stub.LeaseJobs(
                worker_service_pb2.LeaseJobsRequest(
                    worker_id=me.worker_id,
                    session_id=me.session_id,
                    poll_id=f"poll-{next(polls)}",
                    max_jobs=LEASE,
                )
            )
            reports = [
                worker_service_pb2.Report(
                    sequence=next(sequences),
                    job_id=lease.job.job_id,
                    lease_token=lease.lease_token,
                    succeeded=worker_service_pb2.Succeeded(result=result),
                )
                for lease in leased.leases
            ]
            if reports:
                await stream.write(worker_service_pb2.ReportJobsRequest(reports=reports))

    async def listen() -> None:
        async for _ in stream:
            pass

    tasks = [asyncio.create_task(work()), asyncio.create_task(work()), asyncio.create_task(listen())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stream.cancel()


def request(number: int) -> job_service_pb2.CreateJobRequest:
    """A no-op job with 200 bytes of payload."""
    made = job_service_pb2.CreateJobRequest(request_id=f"{time.time_ns()}-{number}")
    made.job.custom.type = "test.echo"
    made.job.custom.params["value"] = PAYLOAD
    return made


async def until_final(stub: JobServiceAsyncStub, jobs: int, ready: asyncio.Event) -> None:
    """Hear of so many finished jobs."""
    wanted = job_service_pb2.WatchJobsRequest(
        filter=job_service_pb2.JobFilter(states=[job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED])
    )
    seen = 0
    async for event in stub.WatchJobs(wanted):
        if not event.events:
            ready.set()
        seen += len(event.events)
        if seen >= jobs:
            return


async def throughput(stub: JobServiceAsyncStub, jobs: int, batch: int, at_once: int) -> float:
    """Jobs a second from the first submit to the last result told."""
    ready = asyncio.Event()
    watch = asyncio.create_task(until_final(stub, jobs, ready))
    await ready.wait()
    gate = asyncio.Semaphore(at_once)

    async def submit(start: int) -> None:
        async with gate:
            if batch == 1:
                await stub.CreateJob(request(start))
            else:
                many = [request(number) for number in range(start, start + batch)]
                await stub.BatchCreateJobs(job_service_pb2.BatchCreateJobsRequest(requests=many))

    begun = time.perf_counter()
    await asyncio.gather(*(submit(start) for start in range(0, jobs, batch)))
    await watch
    return jobs / (time.perf_counter() - begun)


async def latency(stub: JobServiceAsyncStub, jobs: int) -> list[float]:
    """Milliseconds from submit to the result in hand, one job after the other."""
    taken = []
    for number in range(jobs):
        begun = time.perf_counter()
        made = await stub.CreateJob(request(number))
        await stub.WaitJob(job_service_pb2.WaitJobRequest(job_id=made.job.job_id))
        taken.append((time.perf_counter() - begun) * 1e3)
    return sorted(taken)


async def scheduler_alone(address: str, token: str, scale: float) -> dict[str, float]:
    """The rows of the inline worker."""
    async with aio_channel(address, token) as work, aio_channel(address, token) as submit, inline_worker(work):
        stub = job_service_pb2_grpc.JobServiceStub(submit)
        await auth_service_pb2_grpc.AuthServiceStub(submit).WhoAmI(auth_service_pb2.WhoAmIRequest())
        idle = await latency(stub, int(200 * scale))
        return {
            "scheduler, 100 a call, 4 calls at once|jobs/s": await throughput(stub, int(10_000 * scale), 100, 4),
            "scheduler, one a call, 64 calls at once|jobs/s": await throughput(stub, int(2_000 * scale), 1, 64),
            "scheduler, idle latency p50|ms": statistics.median(idle),
            "scheduler, idle latency p99|ms": idle[int(len(idle) * 0.99)],
        }


def with_children(address: str, token: str, scale: float) -> dict[str, float]:
    """The rows of a real worker."""
    with Client(address, token) as client:
        list(client.map("test.echo", ({"value": number} for number in range(50))))
        jobs = int(1_000 * scale)
        begun = time.perf_counter()
        list(client.map("test.echo", ({"value": PAYLOAD} for _ in range(jobs))))
        rate = jobs / (time.perf_counter() - begun)
        taken = []
        for _ in range(int(100 * scale)):
            begun = time.perf_counter()
            client.submit("test.echo", {"value": PAYLOAD}).result(progress=False)
            taken.append((time.perf_counter() - begun) * 1e3)
        return {
            "2 warm children, Client.map|jobs/s": rate,
            "2 warm children, idle latency p50|ms": statistics.median(taken),
        }


def measure(repeats: int, scale: float) -> list[Row]:
    """All rows, each measured `repeats` times on a fresh scheduler."""
    seen: dict[str, list[float]] = {}
    for _ in range(repeats):
        for worker in (False, True):
            with tempfile.TemporaryDirectory() as scratch, programs(Path(scratch), worker=worker) as (address, token):
                if worker:
                    figures = with_children(address, token, scale)
                else:
                    figures = asyncio.run(scheduler_alone(address, token, scale))
            for name, value in figures.items():
                seen.setdefault(name, []).append(value)
    rows = []
    for name, values in seen.items():
        what, unit = name.split("|")
        rows.append(Row(what, unit, statistics.median(values), min(values), max(values), len(values)))
    return rows


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="how many jobs, as a share of the usual number")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.repeats, arguments.scale)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = Table(title=f"Towpath on {os.cpu_count()} cores, Python {platform.python_version()}, fsynced SQLite")
    for heading in ("what", "median", "least", "most", "unit", "runs"):
        table.add_column(heading, justify="left" if heading in ("what", "unit") else "right")
    for row in rows:
        table.add_row(row.name, f"{row.median:,.1f}", f"{row.least:,.1f}", f"{row.most:,.1f}", row.unit, str(row.runs))
    Console().print(table)


if __name__ == "__main__":
    main()
