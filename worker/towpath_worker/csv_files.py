"""CSV files, plain, gzipped or zipped, as data frames: inflated, measured and read as a stream."""

from __future__ import annotations

import csv
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import BinaryIO

import pandas as pd

from towpath_worker.caps import Caps
from towpath_worker.errors import InvalidInput

#: A line that is longer is no row of a table; pandas would hold it several times over.
MAX_LINE_BYTES = 4 << 20
#: The zip format's other methods inflate without a bound for each step.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

#: What the unpackers raise for bytes that are none of theirs.
_DAMAGED = (
    *(EOFError, OSError, ValueError, OverflowError, IndexError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)

Progress = Callable[[float], None]


def read(
    file: BinaryIO, path: str, text_columns: Collection[str], progress: Progress | None, caps: Caps
) -> pd.DataFrame:
    """The table in an open file whose ending says how it is packed. Raises InvalidInput."""
    with ExitStack() as stack:
        try:
            return _read(_inflated(file, path, stack), file, path, text_columns, progress, caps)
        except _DAMAGED as error:
            raise InvalidInput(f"{path!r} is damaged or not what its ending says: {error}") from None


def _inflated(file: BinaryIO, path: str, stack: ExitStack) -> BinaryIO:
    if path.lower().endswith(".gz"):
        return stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))  # type: ignore[return-value]
    if not path.lower().endswith(".zip"):
        return file
    archive = stack.enter_context(zipfile.ZipFile(_Sparing(file, path)))
    members = [entry for entry in archive.infolist() if not (entry.is_dir() or entry.filename.startswith("__MACOSX/"))]
    if len(members) != 1:
        raise InvalidInput(f"{path!r} holds {len(members)} files: give a zip with exactly one CSV file")
    if members[0].compress_type not in _ZIP_METHODS:
        raise InvalidInput(f"{path!r} is packed in an unusual way: zip it again, with the method 'deflate'")
    return stack.enter_context(archive.open(members[0]))  # type: ignore[return-value]


class _Sparing:
    """A file for zipfile, which reads the whole list of an archive's files at once, however long it claims to be."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file, self._path = file, path

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(MAX_LINE_BYTES + 1 if size < 0 else min(size, MAX_LINE_BYTES + 1))
        if len(content) > MAX_LINE_BYTES:
            raise InvalidInput(f"{self._path!r} lists too many files: give a zip with exactly one CSV file")
        return content


class _Measured(io.RawIOBase):
    """A stream that gives back its first bytes, counts, and stops at a limit."""

    def __init__(self, head: bytes, rest: BinaryIO, tick: Callable[[], None], max_bytes: int, path: str) -> None:
        self._head, self._rest, self._tick = head, rest, tick
        self._left, self._max_bytes, self._path = max_bytes, max_bytes, path
        self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._head:
            chunk, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            chunk = self._rest.read(len(buffer))
            self._tick()
        self._left -= len(chunk)
        if self._left < 0:
            raise InvalidInput(f"{self._path!r} holds more than {self._max_bytes:,} bytes: give a smaller table")
        self._measure_lines(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def _measure_lines(self, chunk: bytes) -> None:
        """Only a line that spans chunks can be too long."""
        end = b"\n" if b"\n" in chunk else b"\r"
        first, last = chunk.find(end), chunk.rfind(end)
        if self._line + (len(chunk) if first < 0 else first) > MAX_LINE_BYTES:
            raise InvalidInput(f"{self._path!r} has a line that is longer than {MAX_LINE_BYTES:,} bytes")
        self._line = self._line + len(chunk) if first < 0 else len(chunk) - last - 1


def _read(
    content: BinaryIO,
    file: BinaryIO,
    path: str,
    text_columns: Collection[str],
    progress: Progress | None,
    caps: Caps,
) -> pd.DataFrame:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = b""
    while len(head) <= MAX_LINE_BYTES and b"\n" not in head and (chunk := content.read(1 << 16)):
        head += chunk
    delimiter, names = _header(head, path)
    caps.check_names(repr(path), names)
    text_columns = set(text_columns)
    most = caps.rows(len(names))

    def tick() -> None:
        if progress is not None and size:
            progress(min(file.tell() / size, 1.0))

    try:
        frame: pd.DataFrame = pd.read_csv(
            io.BufferedReader(_Measured(head, content, tick, caps.max_bytes, path), 1 << 18),
            sep=delimiter,
            compression=None,
            encoding="utf-8-sig",
            low_memory=False,
            index_col=False,
            # A row of one byte becomes one of all columns: what comes after the last row allowed is not read.
            nrows=most + 1,
            dtype={name: str for name in names if name in text_columns},
        )
    except UnicodeDecodeError:
        raise InvalidInput(f"{path!r} is not UTF-8 text: save it as UTF-8 and try again") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError, csv.Error) as error:
        raise InvalidInput(f"{path!r} cannot be read as CSV: {error}") from None
    if len(frame) > most:
        raise InvalidInput(
            f"{path!r} has more than {most:,} rows of {len(names):,} columns: give a smaller table, "
            "or let the worker's owner raise the cap"
        )
    return frame


def _header(head: bytes, path: str) -> tuple[str, list[str]]:
    """The delimiter (comma, semicolon, tab or bar, by the first line) and the column names."""
    text = head.decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise InvalidInput(f"{path!r} is empty: its first line must name the columns")
    if "\n" not in text and "\r" not in text and len(head) > MAX_LINE_BYTES:
        raise InvalidInput(f"the first line of {path!r} is longer than {MAX_LINE_BYTES:,} bytes: is it a CSV file?")
    first = next(line for line in text.splitlines() if line.strip())
    delimiter = "," if "," in first else max(",;\t|", key=first.count)
    try:
        names = next(row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row)
    except (csv.Error, StopIteration) as error:
        raise InvalidInput(f"the first line of {path!r} does not name columns: {error}") from None
    return delimiter, [name or f"Unnamed: {index}" for index, name in enumerate(names)]
