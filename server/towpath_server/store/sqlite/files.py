"""A store's files while they are made: whose they are, and what lies beside them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from towpath_server.store.sqlite.lockfile import Owner

BESIDE = ("-wal", "-shm", "-journal")


def owner_of(path: Path) -> Owner | None:
    """Whose the store is, where root restores it for them: they could not open a file of root's."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    found = (path if path.exists() else path.parent).stat()
    return found.st_uid, found.st_gid


def create_private(path: Path, owner: Owner | None) -> None:
    """Makes an empty file that only its owner can read, in the place of one that a restore left that was cut off."""
    remove(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if owner is not None:
            os.fchown(descriptor, *owner)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Deletes a store that nobody has open."""
    for file in all_of(path):
        file.unlink(missing_ok=True)


def all_of(path: Path) -> list[Path]:
    """The file and what SQLite may have put beside it."""
    return [path.with_name(f"{path.name}{ending}") for ending in ("", *BESIDE)]
