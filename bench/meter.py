"""What PostgreSQL does for jobs: its CPU time, and how many of its transactions write. The peers use it too."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: Each transaction that writes takes one number, and no other does.
TRANSACTIONS = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
#: In /proc/PID/stat after the name: the parent, and the times (own and those of children that have ended).
PARENT, TIMES = 1, slice(11, 15)


@dataclass(frozen=True, slots=True)
class Reading:
    """A look at the server: CPU seconds so far, numbers of transactions so far."""

    cpu: float
    transactions: int

    @classmethod
    def now(cls, transactions: int) -> Reading:
        """With the number that the server gives for `TRANSACTIONS`."""
        pid = os.environ.get("BENCH_POSTGRES_PID", "")
        return cls(_family_seconds(pid) if pid else 0.0, transactions)

    def since(self, before: Reading, name: str, jobs: int, seconds: float) -> dict[str, float]:
        """The figures of a run that did so many jobs in so many seconds."""
        return {
            f"{name}.postgres": (self.cpu - before.cpu) / jobs * 1e6,
            f"{name}.commits": (self.transactions - before.transactions) / seconds,
        }


def _family_seconds(pid: str) -> float:
    """Of a process and its children; children that have ended are in its own account."""
    ticks = 0
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if place.parent.name == pid or fields[PARENT] == pid:
            ticks += sum(map(int, fields[TIMES]))
    return ticks / os.sysconf("SC_CLK_TCK")
