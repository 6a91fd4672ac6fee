"""`towpath-server backup` and `towpath-server restore`: what they do, and what they say at the end."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from towpath_server.core.job import SECOND
from towpath_server.store.base import StoreRefused
from towpath_server.store.sqlite import restoring, snapshot
from towpath_server.store.sqlite.snapshot import OnProgress, Snapshot
from towpath_server.upkeep_settings import BackupSettings, RestoreSettings


def backup(settings: BackupSettings, on_progress: OnProgress) -> str:
    """Copy the store. Raises `StoreRefused`, and then wrote nothing."""
    began = time.monotonic()
    target = settings.to.expanduser().resolve()
    if target.is_dir():
        target /= f"{settings.file.stem}-{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.sqlite"
    snapshot.demand_file(settings.file)
    if target.exists():
        if target.samefile(settings.file):
            raise StoreRefused(f"{target} is the store itself. Choose another file for its copy.")
        if not settings.force:
            raise StoreRefused(f"{target} is there already. Choose another name, or give --force.")
    if not target.parent.is_dir():
        raise StoreRefused(f"There is no folder {target.parent}. Make it first.")
    found = snapshot.take(settings.file, target, on_progress)
    seconds = time.monotonic() - began
    if settings.as_json:
        return _as_json(found, seconds)
    return f"copied {_summary(found)} in {seconds:.1f} s to {target}"


def restore(settings: RestoreSettings, on_progress: OnProgress) -> str:
    """Put a backup in the place of the store. Raises `StoreRefused`, and then the store is as it was."""
    began = time.monotonic()
    restored = restoring.put_back(settings.backup.expanduser().resolve(), settings.file, on_progress)
    seconds = time.monotonic() - began
    if settings.as_json:
        return _as_json(restored.now, seconds, aside=None if restored.aside is None else str(restored.aside))
    moment = _moment(restored.now)
    lines = [f"restored {_summary(restored.now)} in {seconds:.1f} s to {settings.file}"]
    if restored.aside is not None:
        lines.append(f"  before  {restored.aside}")
    if moment is not None:
        lines.append(f"  as of   {moment:%Y-%m-%d %H:%M:%S} UTC, the latest change that the backup knows")
    lines.append(
        "  know    Jobs submitted later are not there, those that ended later run again, and tokens are as then."
    )
    return "\n".join(lines)


def _summary(found: Snapshot) -> str:
    return f"{found.jobs} jobs ({found.active} not final), {found.size} bytes,"


def _moment(found: Snapshot) -> datetime | None:
    return None if found.time is None else datetime.fromtimestamp(found.time / SECOND, UTC)


def _as_json(found: Snapshot, seconds: float, **more: str | None) -> str:
    moment = _moment(found)
    return json.dumps(
        {
            "path": str(found.path),
            "jobs": found.jobs,
            "active_jobs": found.active,
            "bytes": found.size,
            "schema": found.schema,
            "latest_change": None if moment is None else moment.isoformat(),
            "seconds": round(seconds, 3),
            **more,
        }
    )
