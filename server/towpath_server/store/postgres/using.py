"""Who works on a store at this moment: each connection of Towpath's tells the server which schema its program knows."""

from __future__ import annotations

import re
from typing import Any

import psycopg

from towpath_server.store.rows import Row

_PROGRAM = re.compile(r"towpath/(\d+)")
# Also what stands still shows: its connections live as long as it does, or until the network gives it up.
_SESSIONS = """SELECT application_name FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'towpath/%'"""
_BEATS = "SELECT replica_id, life, beat FROM replicas ORDER BY replica_id"


def program(schema: int) -> str:
    """The name of a program that knows this schema."""
    return f"towpath/{schema}"


def programs(connection: psycopg.Connection[Row]) -> list[int]:
    """The newest schema that each connected program knows, one a connection; without this connection."""
    names = [name for (name,) in connection.execute(_SESSIONS.encode()).fetchall()]
    return [int(found[1]) for name in names if (found := _PROGRAM.fullmatch(name))]


def beats(connection: psycopg.Connection[Row]) -> list[tuple[Any, ...]]:
    """The schedulers that have not said goodbye, each with how often it has beaten."""
    return connection.execute(_BEATS.encode()).fetchall()


def oldest_program(connection: psycopg.Connection[Row], schema: int) -> int:
    """The newest schema that the oldest program at work knows; `schema` is that of the store."""
    found = programs(connection)
    if found:
        return min(found)
    # Named otherwise by their address, or dead: they are taken for what the store was made for.
    return schema if beats(connection) else _NOBODY


_NOBODY = 1 << 31
