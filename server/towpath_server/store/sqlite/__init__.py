"""The embedded store: one SQLite file, one writer."""

from __future__ import annotations

from towpath_server.store.sqlite.store import SqliteStore, SqliteTables

__all__ = ["SqliteStore", "SqliteTables"]
