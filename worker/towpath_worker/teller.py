"""In a child process: sends what a Context says up the pipe, progress no oftener than ten times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from google.protobuf import duration_pb2, timestamp_pb2

from towpath.v1 import job_pb2
from towpath_worker.frames import Kind
from towpath_worker.handler import ProgressUpdate
from towpath_worker.results import clean

INTERVAL = 0.1


class PipeTeller:
    """Sends logs at once, and of progress the newest."""

    def __init__(self, send: Callable[[Kind, bytes], None]) -> None:
        self._send = send
        self._ready = threading.Condition()
        self._newest: ProgressUpdate | None = None
        self._last_sent = float("-inf")
        self._closed = False
        self._later: threading.Thread | None = None

    def progress(self, update: ProgressUpdate) -> None:
        """Sends the update now, or when its turn comes, unless a newer one comes before."""
        with self._ready:
            waiting, self._newest = self._newest is not None, update
            if time.monotonic() - self._last_sent >= INTERVAL:
                self._flush()
            elif self._later is None:
                self._later = threading.Thread(target=self._send_later, name="towpath-progress", daemon=True)
                self._later.start()
            elif not waiting:
                self._ready.notify()

    def log(self, text: str) -> None:
        """Sends a piece of the job's own log."""
        self._send(Kind.LOG, clean(text).encode())

    def close(self) -> None:
        """Sends what is left."""
        with self._ready:
            self._flush()
            self._closed = True
            self._ready.notify()

    def _send_later(self) -> None:
        with self._ready:
            while not self._closed:
                wait = None if self._newest is None else self._last_sent + INTERVAL - time.monotonic()
                if wait is not None and wait <= 0:
                    self._flush()
                else:
                    self._ready.wait(wait)

    def _flush(self) -> None:
        if self._newest is not None:
            update, self._newest = self._newest, None
            self._send(Kind.PROGRESS, to_proto(update).SerializeToString())
            self._last_sent = time.monotonic()


def to_proto(update: ProgressUpdate) -> job_pb2.Progress:
    """The update as it travels."""
    progress = job_pb2.Progress(
        phase=clean(update.phase)[:200],
        message=clean(update.message)[:2000],
        metrics={clean(name)[:200]: value for name, value in list(update.metrics.items())[:200]},
        update_time=timestamp_pb2.Timestamp(),
    )
    progress.update_time.GetCurrentTime()
    if update.percent is not None:
        progress.percent = update.percent
    if update.eta is not None:
        progress.eta.CopyFrom(duration_pb2.Duration(seconds=int(update.eta), nanos=int(update.eta % 1 * 1e9)))
    return progress
