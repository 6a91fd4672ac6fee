"""A real Context whose words are kept, and folders to work in: for tests that call handlers directly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from towpath.v1 import model_pb2
from towpath_worker import staging
from towpath_worker.handler import Context, ProgressUpdate
from towpath_worker.paths import Folders

TENANT, USER, WORKER = "acme", "ann", "wkr_0000000000001"
TOKEN = "the-lease"


class Words:
    """What a handler said; `on_progress` is called with each update."""

    def __init__(self, on_progress: Callable[[ProgressUpdate], None] = lambda update: None) -> None:
        self.updates: list[ProgressUpdate] = []
        self.lines: list[str] = []
        self._on_progress = on_progress

    def progress(self, update: ProgressUpdate) -> None:
        self.updates.append(update)
        self._on_progress(update)

    def log(self, text: str) -> None:
        self.lines.append(text)


def make_folders(root: Path) -> Folders:
    """Folders under `root`; the data folder is there, the others are made when needed."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    return Folders(data=(root / "data",), models=root / "models", results=root / "results")


def make_context(
    folders: Folders,
    words: Words | None = None,
    *,
    job_id: str = "job_0000000000001",
    user: str = USER,
    threads: int = 1,
    stop: threading.Event | None = None,
) -> Context:
    """A context as the worker makes it."""
    return Context(
        job_id=job_id,
        attempt=1,
        workdir=folders.data[0].parent,
        folders=folders,
        worker_id=WORKER,
        tenant=TENANT,
        user=user,
        threads=threads,
        lease_token=TOKEN,
        teller=words or Words(),
        stop=stop,
    )


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Whoever reads the path, root too, gets an OSError that does not say that nothing is there."""
    aside = path.with_name(f".aside {path.name}")
    path.rename(aside)
    path.symlink_to(path)
    try:
        yield
    finally:
        path.unlink()
        aside.rename(path)


def publish(
    folders: Folders, model: model_pb2.Model, files: Mapping[str, bytes], details: Mapping[str, Any] | None = None
) -> model_pb2.Model:
    """Stores a model as a training whose result was accepted does."""
    lease = (model.job_id, f"of {model.name}")
    stored = staging.stage(folders, model, files, details or {}, lease)
    staging.publish(folders, lease)
    return stored
