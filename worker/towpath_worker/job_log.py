"""The worker's own record of what ran here and for whom: one line of JSON for each start and each end of a job."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any

from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker.log import logger
from towpath_worker.outcomes import Outcome
from towpath_worker.plan import job_type

log = logger("towpath.worker")

MAX_BYTES = 10 * 1024 * 1024
KEEP = 5
# Seconds in which lines gather, so that a thousand tiny jobs are one write.
GATHER = 0.1
# Lines that wait for a disk that stands still; what comes then is not written down.
MOST_WAITING = 200_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job has used: seconds of CPU time, and bytes of memory at most. None: not known."""

    cpu_seconds: float | None = None
    peak_memory: int | None = None


NOT_KNOWN = Usage()


class JobLog:
    """An append-only file that only its owner can read, and the older ones beside it: `jobs.log.1` and so on.

    It never holds parameters, data or messages, and no name in it can begin a line. Safe to use from any thread.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._waiting: deque[tuple[float, dict[str, Any], worker_service_pb2.Lease]] = deque()
        self._woken = threading.Event()
        self._closed = False
        self._failed = False
        self._lost = 0
        self._thread = threading.Thread(target=self._keep_writing, name="towpath-job-log", daemon=True)
        self._thread.start()

    def started(self, lease: worker_service_pb2.Lease) -> None:
        """A job begins."""
        self._add({"event": "start", "paths": _paths(lease.job)}, lease)

    def ended(
        self, lease: worker_service_pb2.Lease, outcome: Outcome | None, seconds: float, usage: Usage = NOT_KNOWN
    ) -> None:
        """A job is over. An outcome of None is one that is told to nobody, as the scheduler has given the job up."""
        facts: dict[str, Any] = {"event": "end", "outcome": "abandoned", "seconds": round(seconds, 4)}
        match outcome:
            case worker_service_pb2.Succeeded():
                facts["outcome"] = "succeeded"
            case worker_service_pb2.Failed(failure=failure):
                facts |= {"outcome": "failed", "error": failure.type}
            case worker_service_pb2.Released(reason=reason):
                facts |= {"outcome": "released", "reason": _reason(reason)}
        if usage.cpu_seconds is not None:
            facts["cpu_seconds"] = round(usage.cpu_seconds, 4)
        if usage.peak_memory is not None:
            facts["peak_memory_bytes"] = usage.peak_memory
        self._add(facts, lease)

    def refused(self, lease: worker_service_pb2.Lease, why: str) -> None:
        """A job that this worker's owner does not want here was not begun."""
        self._add({"event": "refused", "why": why}, lease)

    def close(self) -> None:
        """Writes what waits."""
        self._closed = True
        self._woken.set()
        self._thread.join(5.0)

    def _add(self, facts: dict[str, Any], lease: worker_service_pb2.Lease) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
        else:
            self._waiting.append((time.time(), facts, lease))
        if not self._woken.is_set():
            self._woken.set()

    def _keep_writing(self) -> None:
        while not self._closed:
            self._woken.wait()
            if not self._closed:
                time.sleep(GATHER)
            self._woken.clear()
            self._write()
        self._write()

    def _write(self) -> None:
        lines = []
        if self._lost:
            log.error("not all that ran here is written down", file=str(self.path), lines_lost=self._lost)
            self._lost = 0
        with contextlib.suppress(IndexError):
            while True:
                lines.append(_line(*self._waiting.popleft()))
        try:
            for piece in _pieces(lines, self._max_bytes):
                self._append(piece)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("what ran here cannot be written down", file=str(self.path), reason=str(error))
            self._failed = True

    def _append(self, piece: bytes) -> None:
        descriptor = self._open()
        size = os.fstat(descriptor).st_size
        if size and size + len(piece) > self._max_bytes:
            os.close(descriptor)
            self._rotate()
            descriptor = self._open()
        with os.fdopen(descriptor, "ab") as file:
            file.write(piece)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self.path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _line(at: float, facts: Mapping[str, Any], lease: worker_service_pb2.Lease) -> bytes:
    job = lease.job
    named = {
        "time": f"{_second(int(at))}.{int(at * 1000) % 1000:03}Z",
        "job": job.job_id,
        "type": job_type(job),
        "tenant": job.tenant,
        "user": job.user,
        "attempt": lease.attempt,
    }
    # By hand, as json.dumps takes three times as long, and there may be thousands a second. In ASCII, with all else
    # escaped: no name can end the line, or write it from the right to the left.
    pairs = [f'"{name}": {_value(value)}' for known in (named, facts) for name, value in known.items()]
    return f"{{{', '.join(pairs)}}}\n".encode("ascii")


def _value(value: object) -> str:
    return (
        encode_basestring_ascii(value)
        if isinstance(value, str)
        else json.dumps(value)
        if isinstance(value, list)
        else repr(value)
    )


@functools.lru_cache(maxsize=4)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def _pieces(lines: Iterable[bytes], most: int) -> Iterable[bytes]:
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > most:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)


def _paths(job: job_pb2.Job) -> list[str]:
    which = job.WhichOneof("spec")
    if which == "train":
        return [one for one in (job.train.data.path,) if one]
    if which == "predict":
        return [one for one in (job.predict.data.path, job.predict.output_path) if one]
    return []


def _reason(number: worker_service_pb2.ReleaseReason.ValueType) -> str:
    with contextlib.suppress(ValueError):
        return worker_service_pb2.ReleaseReason.Name(number).removeprefix("RELEASE_REASON_").lower()
    return str(number)
