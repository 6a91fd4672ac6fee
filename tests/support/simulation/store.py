"""The real SQLite store, quick instead of safe against power cuts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from support.simulation.recorded import Disk, RecordedStore, Recorder
from towpath_server.store.sqlite import SqliteStore


def opened(path: Path, disk: Disk, recorder: Recorder) -> RecordedStore:
    """One life's connection to the file."""
    store = SqliteStore(path)
    store._connection.execute("PRAGMA synchronous = OFF")
    return RecordedStore(store, disk, recorder)


@cache
def empty_file() -> bytes:
    """A fresh store's file: to copy it is quicker than to make one."""
    with fast_folder() as folder:
        path = folder / "empty.sqlite"
        SqliteStore(path).close()
        return path.read_bytes()


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A temporary folder in memory where there is such a thing."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="towpath-simulation-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
