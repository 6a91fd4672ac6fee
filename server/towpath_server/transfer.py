"""`towpath-server migrate` and `towpath-server move`: what they do, and what they say at the end."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from towpath_server import driver, store_url
from towpath_server.store import moving
from towpath_server.store.archive import Archive, Target
from towpath_server.store.moving import Contents, OnProgress
from towpath_server.store.sqlite import archive as sqlite_archive
from towpath_server.store.sqlite import upgrading as sqlite_upgrading
from towpath_server.upkeep_settings import MigrateSettings, MoveSettings, Unfinished


class _Done(NamedTuple):
    before: int
    after: int
    applied: tuple[str, ...]
    held_back: tuple[str, ...]


def migrate(settings: MigrateSettings, on_progress: OnProgress) -> str:
    """Bring a store up to date. Raises `StoreRefused`, or `Unfinished` where something was held back."""
    began = time.monotonic()
    done = _migrate(settings)
    seconds = time.monotonic() - began
    if settings.as_json:
        told = json.dumps(
            {
                "store": settings.shown_store,
                "schema_before": done.before,
                "schema": done.after,
                "applied": done.applied,
                "held_back": done.held_back,
                "dry_run": settings.dry_run,
                "seconds": round(seconds, 3),
            }
        )
    else:
        told = "\n".join(_words(done, settings))
    if done.held_back and not settings.dry_run:
        raise Unfinished(told)
    return told


def _migrate(settings: MigrateSettings) -> _Done:
    path = settings.store_path
    if path is not None:
        return _Done(*sqlite_upgrading.migrate(path, dry_run=settings.dry_run), ())
    with driver.needed():
        from towpath_server.store.postgres import schema
    report = schema.migrate(settings.store, dry_run=settings.dry_run)
    return _Done(report.before, report.after, report.applied, report.held_back)


def _words(done: _Done, settings: MigrateSettings) -> Iterator[str]:
    place = settings.shown_store
    if not done.applied and not done.held_back:
        yield f"{place} is up to date (schema {done.after})"
        return
    if done.applied:
        verb = "would be brought" if settings.dry_run else "was brought"
        yield f"{place} {verb} from schema {done.before} to {done.after}"
        yield from (f"  {'would do' if settings.dry_run else 'done'}  {name}" for name in done.applied)
    if done.held_back:
        yield f"{place} stays at schema {done.after} while schedulers of an older version run on it"
        yield from (f"  held back  {name}" for name in done.held_back)
        yield "  next  stop or upgrade those, then run this again"


def move(settings: MoveSettings, on_progress: OnProgress) -> str:
    """Take a store elsewhere. Raises `StoreRefused`, and then the target is as it was."""
    began = time.monotonic()
    with _source(settings.move_from) as source, _target(settings.move_to) as target:
        contents = moving.move(source, target, on_progress)
    seconds = time.monotonic() - began
    old, new = store_url.shown(settings.move_from), store_url.shown(settings.move_to)
    if settings.as_json:
        return _as_json(contents, old, new, seconds)
    states = ", ".join(f"{count} {state}" for state, count in sorted(contents.states.items()))
    others = ", ".join(f"{contents.counts[part]} {part}" for part in ("workers", "models", "queues", "tokens"))
    lines = [
        f"moved {contents.counts['jobs']} jobs{f' ({states})' if states else ''} in {seconds:.1f} s to {new}",
        f"  with    {contents.counts['attempts']} attempts, {contents.log_bytes} bytes of logs, {others}",
        f"  proof   all of it was read again there and is the same ({contents.digest})",
        f"  next    towpath-server --store {shlex.quote(new)}",
        f"  know    {old} is as it was. Start no scheduler on it any more: its jobs would run twice.",
    ]
    return "\n".join(lines)


def _as_json(contents: Contents, old: str, new: str, seconds: float) -> str:
    return json.dumps(
        {
            "from": old,
            "to": new,
            "counts": dict(contents.counts),
            "states": dict(contents.states),
            "log_bytes": contents.log_bytes,
            "digest": contents.digest,
            "seconds": round(seconds, 3),
        }
    )


def _source(url: str) -> AbstractContextManager[Archive]:
    path = store_url.path_of(url)
    if path is not None:
        return sqlite_archive.source(path)
    with driver.needed():
        from towpath_server.store.postgres import archive
    return archive.source(url)


def _target(url: str) -> AbstractContextManager[Target]:
    path = store_url.path_of(url)
    if path is not None:
        return sqlite_archive.target(path)
    with driver.needed():
        from towpath_server.store.postgres import archive
    return archive.target(url)
