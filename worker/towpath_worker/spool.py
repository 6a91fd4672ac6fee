"""Reports that the scheduler has not acked, on disk: outcomes above all, so that a restart of the worker loses none.

Written without fsync but for trainings: it survives the worker's death. A power cut costs another run and never a wrong
state; a training's outcome outlives it, as the scheduler may have accepted it already and its model waits for its name.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from towpath.v1 import worker_service_pb2

RECORD = struct.Struct(">II")


class Spool:
    """An append-only file of reports: length, CRC-32 and report, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        # What a kill cut off in the middle must not stand before what comes now.
        self._cut(max((end for _, end in _records(path.read_bytes())), default=0))

    @property
    def size(self) -> int:
        """In bytes."""
        return self._file.tell()

    def load(self) -> list[worker_service_pb2.Report]:
        """The reports from before a restart, in order, up to the first damaged one."""
        return [report for report, _ in _records(self.path.read_bytes())]

    def append(self, reports: Iterable[worker_service_pb2.Report], *, sync: bool = False) -> None:
        """Adds reports at the end, all or none. Raises OSError where the disk takes no more."""
        before = self.size
        try:
            _write(self._file, b"".join(_record(report) for report in reports))
            if sync:
                os.fsync(self._file.fileno())
        except OSError:
            self._cut(before)
            raise

    def replace(self, reports: Iterable[worker_service_pb2.Report]) -> None:
        """Puts these in the place of all that is there. Raises OSError where the disk takes no more."""
        path = self.path.with_suffix(".new")
        try:
            with path.open("wb", buffering=0) as fresh:
                _write(fresh, b"".join(_record(report) for report in reports))
                os.fsync(fresh.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._file.close()
        path.replace(self.path)
        self._file = self.path.open("ab", buffering=0)

    def clear(self) -> None:
        """Empties it."""
        if self.size:
            self._cut(0)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _cut(self, size: int) -> None:
        self._file.truncate(size)
        self._file.seek(size)


def _write(file: io.RawIOBase, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _record(report: worker_service_pb2.Report) -> bytes:
    payload = report.SerializeToString()
    return RECORD.pack(len(payload), zlib.crc32(payload)) + payload


def _records(data: bytes) -> Iterator[tuple[worker_service_pb2.Report, int]]:
    """Each report, and where its record ends."""
    at = 0
    while at + RECORD.size <= len(data):
        length, checksum = RECORD.unpack_from(data, at)
        payload = data[at + RECORD.size : at + RECORD.size + length]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        at += RECORD.size + length
        try:
            yield worker_service_pb2.Report.FromString(payload), at
        except DecodeError:
            return
