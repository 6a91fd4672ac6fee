"""The worker's own folder: its id, its lock, its models, results and spool. One worker at a time has it."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from towpath_worker import portable

#: Where it is written what ran here and for whom.
JOB_LOG = "jobs.log"


class StateFolderTaken(Exception):
    """Another worker runs on this state folder."""


class StateFolder:
    """A state folder, locked for the life of this object."""

    def __init__(self, root: Path) -> None:
        self.root = portable.private_folder(root.expanduser().resolve())
        self._lock = (self.root / "lock").open("a+b")
        if not portable.lock(self._lock):
            self._lock.close()
            raise StateFolderTaken(
                f"Another worker runs on {self.root}. Stop it, give this one more --slots instead, "
                "or give it a --state-dir of its own."
            )
        self.models = portable.private_folder(self.root / "models")
        self.results = portable.private_folder(self.root / "results")
        self.work = self.root / "work"
        self.spool = self.root / "spool"
        self.job_log = self.root / JOB_LOG
        # What a killed worker left behind: nobody else can be at work here now.
        portable.kill_marked(f"{self.mark}:")
        shutil.rmtree(self.work, ignore_errors=True)
        portable.private_folder(self.work)

    @property
    def mark(self) -> str:
        """Marks all processes of this folder's worker."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]

    @property
    def worker_id(self) -> str:
        """As the scheduler gave it; empty before the first registration."""
        path = self.root / "worker_id"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    @worker_id.setter
    def worker_id(self, worker_id: str) -> None:
        fresh = self.root / "worker_id.new"
        fresh.write_text(worker_id + "\n", encoding="utf-8")
        fresh.replace(self.root / "worker_id")

    def close(self) -> None:
        """Lets the folder go."""
        self._lock.close()
