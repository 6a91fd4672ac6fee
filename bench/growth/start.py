"""How soon programs are there: the scheduler on an empty store and on a full one, the command line, a worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from bench.figures import Measure, Scale
from bench.growth.queued import Layout, copy
from bench.programs import scheduler, scratch, worker
from towpath import Client

MILLION = 1_000_000
# grpc.health.v1.Health.Check of the whole server: an empty request, and `status` = SERVING in the answer.
HEALTH, SERVING = "/grpc.health.v1.Health/Check", b"\x08\x01"
TRIES = 3

KEYS = (
    Measure("start.empty", "towpath-server serves an empty store", "s"),
    Measure("start.full", "towpath-server serves a store with 1,000,000 queued jobs", "s"),
    Measure("start.python", "python -c pass, which is in all of these", "s"),
    Measure("start.help", "towpath --help", "s"),
    Measure("start.worker", "towpath-worker has parked its first poll", "s"),
    Measure("start.memory", "towpath-server's memory on an empty store", "MB"),
)


def measure(scale: Scale) -> dict[str, float]:
    """The best of a few starts each: the first one brings files from the disk."""
    jobs = scale.count(MILLION, 200)
    with scratch() as folder:
        figures = {
            "start.python": _best(lambda: _run("-c", "pass")),
            "start.help": _best(lambda: _run("-c", "from towpath.cli import main; main()", "--help")),
            "start.empty": _best(lambda: _serve(folder)),
        }
        full = copy(Layout(jobs), folder)
        figures["start.full"] = _best(lambda: _serve(full))
    with scratch() as folder:
        figures["start.worker"] = _worker(folder)
        with scheduler(folder) as at:
            figures["start.memory"] = at.rss() / 1e6
    return figures


def _best(start: Callable[[], float]) -> float:
    return min(start() for _ in range(TRIES))


def _run(*words: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _serve(folder: Path) -> float:
    """Until its health says that it serves."""
    begun = time.perf_counter()
    with scheduler(folder) as at, grpc.insecure_channel(at.address) as channel:
        check: Callable[..., bytes] = channel.unary_unary(HEALTH)
        answer = check(b"", timeout=60, wait_for_ready=True)
        taken = time.perf_counter() - begun
        assert answer == SERVING, answer
    return taken


def _worker(folder: Path) -> float:
    with scheduler(folder) as at, Client(at.address, at.token) as client:
        client.server_stats()
        begun = time.perf_counter()
        with worker(at):
            while not client.server_stats().parked_poll_count:
                time.sleep(0.002)
            return time.perf_counter() - begun
