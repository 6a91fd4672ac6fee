"""Reading many rows at once: SQLite packs them into one JSON text, with blobs in hex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towpath_server.core.job import Job
from towpath_server.store import rows
from towpath_server.store.sqlite import statements
from towpath_server.store.sqlite.connection import Connection, Parameters

_SQL = statements.named("jobs")
_RESULT = rows.JOB_COLUMNS.index("result")
_REQUEST_HASH, _ANNOTATIONS, _SPEC = -3, -2, -1
# Stands where a result is too large to be packed.
_LARGE_RESULT = 0


def packed(connection: Connection, sql: str, parameters: Parameters = ()) -> list[list[Any]]:
    """The rows of a query that gives them as one JSON array of arrays."""
    found: list[list[Any]] = rows.loads(connection.value(sql, parameters))
    return found


def ids(connection: Connection, picked: str, parameters: Mapping[str, Any]) -> list[int]:
    """The ids that the query `picked` gives, in its order."""
    found: list[int] = rows.loads(connection.value(_SQL["ids"].format(picked=picked), parameters))
    return found


def jobs(connection: Connection, picked: str, parameters: Mapping[str, Any]) -> list[Job]:
    """The jobs whose ids the query `picked` gives, in its order."""
    found = packed(connection, _SQL["packed"].format(picked=picked), parameters)
    large = [row[0] for row in found if _is_large(row)]
    blobs = _blobs(connection, large) if large else {}
    # A large one may have been deleted between the two queries.
    return [rows.read_job(_unpacked(row, blobs)) for row in found if row[0] in blobs or not _is_large(row)]


def _is_large(row: list[Any]) -> bool:
    return row[_SPEC] is None or row[_ANNOTATIONS] is None or row[_RESULT] == _LARGE_RESULT


def _blobs(connection: Connection, job_ids: list[int]) -> dict[int, tuple[bytes, bytes, bytes]]:
    found = connection.rows(_SQL["blobs"], (rows.dumps(job_ids),))
    return {job_id: (result, annotations, spec) for job_id, result, annotations, spec in found}


def _unpacked(row: list[Any], blobs: Mapping[int, tuple[bytes, bytes, bytes]]) -> list[Any]:
    row[_REQUEST_HASH] = bytes.fromhex(row[_REQUEST_HASH])
    if row[0] in blobs:
        row[_RESULT], row[_ANNOTATIONS], row[_SPEC] = blobs[row[0]]
        return row
    row[_ANNOTATIONS] = bytes.fromhex(row[_ANNOTATIONS])
    row[_SPEC] = bytes.fromhex(row[_SPEC])
    if row[_RESULT] is not None:
        row[_RESULT] = bytes.fromhex(row[_RESULT])
    return row
