"""One tenant floods the scheduler: another's submits are answered all the same, and how much later."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support import processes, soak
from towpath import Client

SUBMITS = 500
MOST_MILLISECONDS = 1000.0


def p99(client: Client) -> float:
    """The 99th percentile of one submit after the other, in milliseconds."""
    times = []
    for _ in range(SUBMITS):
        begun = time.perf_counter()
        client.submit("echo")
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.quantiles(times, n=100)[98]


@contextmanager
def flood(at: processes.Scheduler, token: str) -> Iterator[Callable[[], int]]:
    """Batches of one user all the while; what is given ends it and says how many jobs were taken."""
    words = [sys.executable, "-m", "support.flood", at.address]
    environment = {**processes.clean(), "TOWPATH_TOKEN": token}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "flooding\n"
        yield lambda: int(process.communicate(timeout=60)[0])


def test_one_tenant_floods(tmp_path: Path) -> None:
    with (
        soak.row("another's submits are answered within 1 s while a tenant floods", "submits") as row,
        processes.scheduler(tmp_path) as at,
        Client(at.address, at.token) as admin,
    ):
        _, flooding = admin.create_token("flood", "submitter", user="flood", tenant="flood")
        p99(admin)
        alone = p99(admin)
        begun = time.monotonic()
        with flood(at, flooding) as end:
            among = p99(admin)
            rate = end() / (time.monotonic() - begun)
        row.trials = SUBMITS
        row.violations = int(among > MOST_MILLISECONDS)
        row.note = (
            f"p99 {alone:.1f} ms alone, {among:.1f} ms beside {rate:,.0f} jobs/s of the other: {among / alone:.1f}x"
        )
