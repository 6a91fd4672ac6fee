"""Bringing a SQLite file up to date without a scheduler."""

from __future__ import annotations

from pathlib import Path

from towpath_server.store.base import StoreRefused
from towpath_server.store.sqlite import schema, snapshot
from towpath_server.store.sqlite.store import SqliteStore


def migrate(path: Path, *, dry_run: bool = False) -> tuple[int, int, tuple[str, ...]]:
    """The file's schema before and after, and the steps between, which with `dry_run` are only told.

    Raises `StoreRefused`.
    """
    real = path.expanduser().resolve()
    snapshot.demand_file(real)
    before = schema.examine(real)
    if not before:
        raise StoreRefused(f"{real} is empty. A scheduler that opens it makes a store of it.")
    steps = [step for step in schema.migrations() if step.version > before]
    if not dry_run:
        SqliteStore(real).close()
    after = steps[-1].version if steps else before
    return before, after, tuple(f"{step.version:04} {step.name}" for step in steps)
