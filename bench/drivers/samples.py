"""The tables and rows that are measured: Towpath's jobs and definitions, as wide as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from towpath_server.store.rows import DEFINITION_COLUMNS, JOB_COLUMNS

Row = tuple[Any, ...]

TEXTS = {"state_reason", "lease_token", "lease_session", "last_token", "progress", "failure", "dedupe"} | {
    *("tenant", "user", "workspace", "queue", "job_type", "concurrency_key", "request_id", "dedupe_key"),
    *("labels", "policy"),
}
BLOBS = {"result", "request_hash", "annotations", "spec"}
SMALL = {"priority", "state", "attempt", "attempt_count", "lost_count", "lease_confirmed"}
SPEC_BYTES = 450
LANE, QUEUED, LEASED = 7, 3, 4
NOW = 1_700_000_000_000_000


def _type(column: str) -> str:
    if column in TEXTS:
        return "text"
    if column in BLOBS:
        return "bytea"
    return "smallint" if column in SMALL else "bigint"


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name, and its columns with their types."""

    name: str
    columns: tuple[str, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """Of its columns."""
        return tuple(map(_type, self.columns))

    @property
    def names(self) -> str:
        """Its columns, quoted: `user` is a word of SQL."""
        return ", ".join(f'"{column}"' for column in self.columns)

    @property
    def typed(self) -> str:
        """Its columns with their types."""
        return ", ".join(f'"{column}" {kind}' for column, kind in zip(self.columns, self.types, strict=True))


JOBS = Table("jobs", JOB_COLUMNS)
DEFINITIONS = Table("definitions", DEFINITION_COLUMNS)
#: What changes when a job does: everything but its id and whose key it has.
SAVED = Table("jobs", JOB_COLUMNS[:-1])

SCHEMA = f"""
DROP TABLE IF EXISTS definitions, jobs;
CREATE TABLE jobs ({JOBS.typed}, PRIMARY KEY (job_id)) WITH (fillfactor = 70);
CREATE TABLE definitions ({DEFINITIONS.typed}, PRIMARY KEY (job_id));
CREATE INDEX jobs_queued ON jobs (lane_id, priority DESC, position) WHERE state = {QUEUED};
CREATE INDEX jobs_by_state ON jobs (lane_id, state);
CREATE INDEX jobs_due ON jobs (due_time) WHERE due_time IS NOT NULL;
CREATE INDEX jobs_held ON jobs (lease_session) WHERE lease_session IS NOT NULL;
CREATE UNIQUE INDEX jobs_by_sequence ON jobs (sequence);
CREATE UNIQUE INDEX jobs_dedupe ON jobs (dedupe) WHERE dedupe IS NOT NULL AND state < 8;
CREATE UNIQUE INDEX definitions_request ON definitions (tenant, "user", request_id) WHERE request_id <> '';
CREATE INDEX definitions_tenant ON definitions (tenant, job_id);
"""


def job_row(job_id: int) -> Row:
    """A job that is queued."""
    head = (job_id, LANE, 2, job_id, QUEUED, "", 1, job_id, NOW, NOW)
    return (*head, None, None, None, NOW + job_id, None, None, 0, 0, 0, None, None, 0, "", None, None, None, None, None)


def saved_row(job_id: int, times: int) -> Row:
    """The same job, leased; `times` makes its sequence one that was never there."""
    head = (job_id, LANE, 2, job_id, LEASED, "", 2, (times << 32) + job_id, NOW, NOW)
    lease = (1, 1, 0, f"lease-{job_id:032x}", "session-0123456789abcdef", 0, f"lease-{job_id:032x}", 12)
    return (*head, NOW, None, None, NOW + job_id, None, None, *lease, None, None, None)


def definition_row(job_id: int) -> Row:
    """What its submitter asked for."""
    policy = "[[null,null,3600000000],[3,1000000,2.0,60000000,0.1,[],false],3,[1,0,0,0,[],null,null]]"
    named = (job_id, "acme", "ann", "default", "queue-0", "custom.noop", "", f"request-{job_id:x}", "")
    return (
        *named,
        NOW,
        None,
        '{"team":"flights"}',
        policy,
        bytes(range(32)),
        b"",
        b'{"spec": "\x00\xff"}' * (SPEC_BYTES // 14),
    )
