"""SQL text for many rows at once: a batch is one statement, and each of its values an array with one column's."""

# Only names from this package go into the text of a statement; values are bound.
# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from towpath_server.store import rows, side_rows
from towpath_server.store.record_rows import Table

JOB_COLUMNS = (*rows.JOB_COLUMNS, "writer", "defined")
DEFINITION_COLUMNS = (*rows.DEFINITION_COLUMNS, "request", "tags", "defined")
LANE_COLUMNS = (*side_rows.LANE_COLUMNS, "digest")
CHANGE_COLUMNS = ("kind", "key", "sequence", "writer")

_SMALL = frozenset({"priority", "state", "lease_confirmed", "outcome", "role", "share", "paused", "draining"})
_BLOBS = frozenset({"result", "dedupe", "request", "request_hash", "annotations", "spec", "body", "digest"})
_NUMBERS = frozenset(
    {
        *("position", "revision", "sequence", "attempt", "attempt_count", "lost_count", "number", "offset", "size"),
        *("stream", "time", "beat", "slots", "task_type", "writer", "defined", "lifetime"),
        *("max_queued", "max_running", "max_requests_per_minute", "max_result_bytes", "max_log_bytes"),
    }
)
_TEXTS = frozenset({"session_id", "request_id"})


def kind_of(table: str, column: str) -> str:
    """The type of a column, as its values are given."""
    if column in _SMALL:
        return "smallint"
    if column in _BLOBS:
        return "bytea"
    if column in _TEXTS:
        return "text"
    known = column in _NUMBERS or column.endswith(("_id", "_time")) or (table, column) == ("models", "version")
    return "bigint" if known else "text"


@cache
def kinds(table: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The types of columns."""
    return tuple(kind_of(table, column) for column in columns)


def names(columns: Sequence[str], of: str = "") -> str:
    """A list of columns; some are named like words of SQL."""
    return ", ".join(f'{of}"{column}"' for column in columns)


def given(table: str, columns: tuple[str, ...], alias: str = "v", first: int = 1) -> str:
    """Rows that come as one array a column, the first of them `$first`."""
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(kinds(table, columns), first))
    return f"unnest({arrays}) {alias} ({names(columns)})"


_JOBS_GIVEN = given("jobs", JOB_COLUMNS)
_DEFINITIONS_GIVEN = given("definitions", DEFINITION_COLUMNS, first=len(JOB_COLUMNS) + 1)

# Jobs of a lane that is not there are left out; who counts them sees that.
INSERT_JOBS = f"""WITH defined AS (
  INSERT INTO definitions ({names(DEFINITION_COLUMNS)})
  SELECT {names(DEFINITION_COLUMNS[:-2], "v.")}, v.tags::jsonb, v.defined FROM {_DEFINITIONS_GIVEN})
INSERT INTO jobs ({names(JOB_COLUMNS)}) SELECT {names(JOB_COLUMNS, "v.")} FROM {_JOBS_GIVEN}
WHERE v.lane_id IN (SELECT lane_id FROM lanes)"""

# `defined` is 0 for one whose definition stays.
UPDATE_JOBS = f"""UPDATE jobs j SET {", ".join(f'"{name}" = v."{name}"' for name in JOB_COLUMNS[1:-1])},
  defined = CASE v.defined WHEN 0 THEN j.defined ELSE v.defined END
FROM {_JOBS_GIVEN} WHERE j.job_id = v.job_id AND j.revision = v.revision - 1"""

UPDATE_DEFINITIONS = f"""UPDATE definitions d SET
  {", ".join(f'"{name}" = v."{name}"' for name in DEFINITION_COLUMNS[1:-2])},
  tags = v.tags::jsonb, defined = v.defined
FROM {given("definitions", DEFINITION_COLUMNS)} WHERE d.job_id = v.job_id"""

DELETE_JOBS = """WITH d AS (DELETE FROM definitions WHERE job_id = ANY ($1::bigint[])),
a AS (DELETE FROM attempts WHERE job_id = ANY ($1::bigint[])), l AS (DELETE FROM logs WHERE job_id = ANY ($1::bigint[]))
DELETE FROM jobs WHERE job_id = ANY ($1::bigint[])"""

INSERT_LANES = f"""INSERT INTO lanes ({names(LANE_COLUMNS)})
SELECT {names(LANE_COLUMNS, "v.")} FROM {given("lanes", LANE_COLUMNS)} ON CONFLICT (lane_id) DO NOTHING"""

# Their jobs are locked, so that nobody deletes them meanwhile, and told: one that is not among them is not there.
KEEP_JOBS = "SELECT job_id FROM jobs WHERE job_id = ANY ($1::bigint[]) ORDER BY job_id FOR KEY SHARE"

UPSERT_ATTEMPTS = f"""INSERT INTO attempts ({names(side_rows.ATTEMPT_COLUMNS)})
SELECT {names(side_rows.ATTEMPT_COLUMNS, "v.")} FROM {given("attempts", side_rows.ATTEMPT_COLUMNS)}
ON CONFLICT (job_id, number) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in side_rows.ATTEMPT_COLUMNS[2:])}"""

INSERT_LOGS = f"""INSERT INTO logs ({names(side_rows.LOG_COLUMNS)})
SELECT {names(side_rows.LOG_COLUMNS, "v.")} FROM {given("logs", side_rows.LOG_COLUMNS)} ON CONFLICT DO NOTHING"""

INSERT_AUDIT = f"""INSERT INTO audit ({names(side_rows.AUDIT_COLUMNS)})
SELECT {names(side_rows.AUDIT_COLUMNS, "v.")} FROM {given("audit", side_rows.AUDIT_COLUMNS)}"""

LANES = f"""SELECT {names(side_rows.LANE_COLUMNS, "l.")}, h.priority, h.position FROM lanes l LEFT JOIN LATERAL (
  SELECT priority, position FROM jobs WHERE lane_id = l.lane_id AND state = 3 ORDER BY priority DESC, position LIMIT 1
) h ON true ORDER BY l.lane_id"""

NEXT_DUE = "SELECT min(due_time) FROM jobs WHERE due_time IS NOT NULL AND state < 8"
NEXT_DUE_FINAL = "SELECT min(due_time) FROM jobs WHERE due_time IS NOT NULL AND state >= 8"

ATTEMPTS = f"SELECT {names(side_rows.ATTEMPT_COLUMNS)} FROM attempts WHERE job_id = $1::bigint ORDER BY number"

# The chunk that holds the offset is the last one that begins at or before it.
LOGS = f"""SELECT {names(side_rows.LOG_COLUMNS)} FROM logs
WHERE job_id = $1::bigint AND attempt = $2::bigint AND "offset" + size > $3::bigint AND "offset" >= coalesce(
  (SELECT max("offset") FROM logs WHERE job_id = $1::bigint AND attempt = $2::bigint AND "offset" <= $3::bigint), 0)
ORDER BY "offset" LIMIT $4::bigint"""


def _changed(source: str, key: str) -> str:
    return f"""INSERT INTO record_changes ({names(CHANGE_COLUMNS)}) {source}
ON CONFLICT ({key}) DO UPDATE SET sequence = excluded.sequence, writer = excluded.writer"""


@cache
def put(table: Table, *, replace: bool, told: bool) -> str:
    """Rows of a record's table, then (where it is told) the keys as they are told, then a sequence and the writer."""
    columns, key = names(table.columns), names(table.columns[: table.key])
    changed = ", ".join(f'"{name}" = excluded."{name}"' for name in table.columns[table.key :])
    conflict = f"ON CONFLICT ({key}) DO {f'UPDATE SET {changed}' if replace else 'NOTHING'}"
    insert = f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM"
    if not told:
        return f"{insert} {given(table.name, table.columns)} {conflict}"
    width = len(table.columns)
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(kinds(table.name, table.columns), 1))
    rest = f"v.told, ${width + 2}::bigint, ${width + 3}::bigint"
    return f"""WITH v AS MATERIALIZED (
  SELECT * FROM unnest({arrays}, ${width + 1}::text[]) v ({columns}, told)),
put AS ({insert} v {conflict} RETURNING {key})
{_changed(f"SELECT '{table.name}', {rest} FROM v JOIN put USING ({key})", "kind, key")}"""


@cache
def remove(table: Table, *, told: bool) -> str:
    """The same for keys alone."""
    columns = table.columns[: table.key]
    key = names(columns)
    if not told:
        return f"DELETE FROM {table.name} WHERE ({key}) IN (SELECT {key} FROM {given(table.name, columns)})"
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(kinds(table.name, columns), 1))
    rest = f"v.told, ${table.key + 2}::bigint, ${table.key + 3}::bigint"
    return f"""WITH v AS MATERIALIZED (SELECT * FROM unnest({arrays}, ${table.key + 1}::text[]) v ({key}, told)),
gone AS (DELETE FROM {table.name} WHERE ({key}) IN (SELECT {key} FROM v) RETURNING {key})
{_changed(f"SELECT '{table.name}', {rest} FROM v JOIN gone USING ({key})", "kind, key")}"""


@cache
def select(table: Table, *, by_key: bool, lock: bool) -> str:
    """All rows of a record's table, or those with the given keys; in the order of their keys."""
    columns = table.columns[: table.key]
    key = names(columns)
    wanted = f"WHERE ({key}) IN (SELECT {key} FROM {given(table.name, columns)})" if by_key else ""
    locked = "FOR UPDATE" if lock else ""
    return f"SELECT {names(table.columns)} FROM {table.name} {wanted} ORDER BY {key} {locked}"
