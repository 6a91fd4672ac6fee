"""Reports that the scheduler has not acked, on disk: outcomes above all, so that a restart of the worker loses none.

Written without fsync: it survives the worker's death, not a power cut, which costs another run and never a wrong state.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from towpath.v1 import worker_service_pb2

RECORD = struct.Struct(">II")
COMPACT_BYTES = 16 * 1024 * 1024


class Spool:
    """An append-only file of reports: length, CRC-32 and report, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")

    @property
    def size(self) -> int:
        """In bytes."""
        return self._file.tell()

    def load(self) -> list[worker_service_pb2.Report]:
        """The reports from before a restart, in order, up to the first damaged one."""
        return list(_records(self._path.read_bytes()))

    def append(self, reports: Iterable[worker_service_pb2.Report]) -> None:
        """Adds reports at the end."""
        self._file.write(b"".join(_record(report) for report in reports))
        self._file.flush()

    def replace(self, reports: Iterable[worker_service_pb2.Report]) -> None:
        """Puts these in the place of all that is there."""
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(b"".join(_record(report) for report in reports))
        self._file.close()
        fresh.replace(self._path)
        self._file = self._path.open("ab")

    def clear(self) -> None:
        """Empties it."""
        if self.size:
            self._file.truncate(0)
            self._file.seek(0)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _record(report: worker_service_pb2.Report) -> bytes:
    payload = report.SerializeToString()
    return RECORD.pack(len(payload), zlib.crc32(payload)) + payload


def _records(data: bytes) -> Iterator[worker_service_pb2.Report]:
    at = 0
    while at + RECORD.size <= len(data):
        length, checksum = RECORD.unpack_from(data, at)
        payload = data[at + RECORD.size : at + RECORD.size + length]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        try:
            yield worker_service_pb2.Report.FromString(payload)
        except DecodeError:
            return
        at += RECORD.size + length
