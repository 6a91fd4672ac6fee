"""The shared store: one PostgreSQL, several schedulers."""

from __future__ import annotations

from towpath_server.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
