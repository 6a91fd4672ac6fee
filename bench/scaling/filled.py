"""Stores with millions of finished jobs beside those that wait: copies, made by SQL, of a few that are real."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.growth.queued import Layout, register, tenant
from towpath_server.core.events import Succeeded
from towpath_server.core.ids import RANDOM_BITS
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.messages import Report
from towpath_server.store.base import Store

LANES = 10
QUEUED, SUCCEEDED = 3, 8
HOUR = 3_600_000
#: Of finished jobs and of those that wait, in milliseconds.
AGE = {SUCCEEDED: 48 * HOUR, QUEUED: HOUR}
#: Ids in a millisecond.
DENSE = 100
#: How long finished jobs are kept from now on, in microseconds.
KEEP = 5 * 24 * HOUR * 1000
INDEXES = (
    "select indexdef, indexrelid::regclass::text from pg_index join pg_indexes on indexrelid = indexname::regclass"
)
OURS = "where schemaname = 'public' and tablename in ('jobs', 'definitions') and not indisprimary"


@dataclass(frozen=True, slots=True)
class Amount:
    """How many jobs of each."""

    queued: int
    finished: int

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.queued:,} queued + {self.finished:,} finished"


def fill_postgres(url: str, open_store: Callable[[], Store], amount: Amount) -> None:
    """Fill an empty database."""
    asyncio.run(_templates(open_store()))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute("set maintenance_work_mem = '512MB'")
        indexes = connection.execute(f"{INDEXES} {OURS}".encode()).fetchall()
        for _, name in indexes:
            connection.execute(f"drop index {name}".encode())
        found = connection.execute("select table_name, column_name from information_schema.columns").fetchall()
        series = "(select n from generate_series({first}::bigint, {last}::bigint) n)"
        base = "(select base from origin) + {n}"
        columns = {table: [name for of, name in found if of == table] for table in ("jobs", "definitions")}
        for statement in _copies(columns, amount, series, base, "request = null"):
            connection.execute(statement.encode())
        for definition, _ in indexes:
            connection.execute(definition.encode())
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def fill_sqlite(path: Path, open_store: Callable[[], Store], amount: Amount) -> None:
    """Fill an empty file."""
    asyncio.run(_templates(open_store()))
    with closing(sqlite3.connect(path)) as connection:
        tables = ("jobs", "definitions")
        columns = {table: [row[1] for row in connection.execute(f"pragma table_info({table})")] for table in tables}
        series = (
            "(with recursive s(n) as (select {first} union all select n + 1 from s where n < {last}) select n from s)"
        )
        (greatest,) = connection.execute("select max(sequence) from jobs").fetchone()
        base = f"{greatest} + {{n}}"
        for statement in _copies(columns, amount, series, base, ""):
            connection.execute(statement)
        connection.commit()


def _copies(columns: Mapping[str, Sequence[str]], amount: Amount, series: str, base: str, more: str) -> list[str]:
    """What makes copies of the templates: those of a state go round."""
    now = time.time_ns() // 1_000_000
    statements = []
    done = 0
    for state, count in ((SUCCEEDED, amount.finished), (QUEUED, amount.queued)):
        if not count:
            continue
        numbers = series.format(first=done + 1, last=done + count)
        born = f"({now - AGE[state]} + (s.n - {done}) / {DENSE})"
        moment = f"{born} * 1000"
        set_to = {
            "job_id": f"({born} << {RANDOM_BITS}) + s.n % {DENSE}",
            "position": f"({born} << {RANDOM_BITS}) + s.n % {DENSE}",
            "sequence": base.format(n="s.n"),
            "request_id": "''",
            **dict(part.split(" = ") for part in more.split(", ") if part),
            "create_time": moment,
            "queue_time": moment,
            "update_time": moment,
        }
        if state == SUCCEEDED:
            set_to |= {"end_time": f"{moment} + 1000000", "due_time": str(now * 1000 + KEEP)}
        done += count
        template = f"""(select row_number() over (order by job_id) - 1 as k, j.job_id from jobs j where state = {state}
          and sequence <= (select max(sequence) from jobs) order by job_id limit {LANES})"""
        for table in ("definitions", "jobs"):
            names = ", ".join(f'"{name}"' for name in columns[table])
            values = ", ".join(set_to.get(name, f't."{name}"') for name in columns[table])
            statements.append(
                f"insert into {table} ({names}) select {values} from {numbers} s "
                f"join {template} p on p.k = s.n % {LANES} join {table} t on t.job_id = p.job_id"
            )
    return statements


async def _templates(store: Store) -> None:
    """In each lane a job that waits and one that has succeeded."""
    scheduler = Scheduler(store)
    # The first token is made by whoever serves.
    await scheduler.start(first_token=False)
    layout = Layout(2 * LANES, lanes=LANES)
    await scheduler.jobs.create(tenant(0), [layout.new(number) for number in range(2 * LANES)])
    worker = await register(scheduler, tenant(0))
    leased = await scheduler.workers.lease(tenant(0), worker.worker_id, worker.session_id, "first", LANES, 0)
    stream = scheduler.workers.connect(tenant(0), worker.worker_id, worker.session_id)
    tokens = [job.lease.token for job in leased if job.lease is not None]
    done = zip(range(1, LANES + 1), leased, tokens, strict=True)
    await stream.report([Report(number, job.job_id, Succeeded(token, b"done")) for number, job, token in done])
    await scheduler.workers.deregister(tenant(0), worker.worker_id, worker.session_id)
    await scheduler.stop()
