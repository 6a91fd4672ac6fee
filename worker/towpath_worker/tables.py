"""Tables in and out: CSV and Parquet files, rows and Arrow streams inside messages, as pandas data frames.

Files are opened by `paths` and handed to pandas as open files with the compression named: pandas itself would fetch
URLs, follow links and inflate without end.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

import pandas as pd

from towpath import arrow_stream
from towpath.v1 import table_pb2
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders, open_for_reading

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 8 << 30
MAX_COLUMNS = 20_000
MAX_HEADER_BYTES = 4 << 20
Progress = Callable[[float], None]


def read(
    folders: Folders,
    data: table_pb2.DataRef,
    *,
    text_columns: Collection[str] = (),
    progress: Progress | None = None,
    max_bytes: int = MAX_BYTES,
) -> pd.DataFrame:
    """The table that `data` names, with at least one row and one column and no column name twice.

    `text_columns` are read from CSV as text, also where they look like numbers. `progress` is called now and then with
    the share of a file read so far, 0 to 1; what it raises goes through. Raises InvalidInput.
    """
    if data.WhichOneof("source") == "path":
        frame = _read_file(folders, data.path, text_columns, progress, max_bytes)
    elif data.WhichOneof("source") == "table":
        frame = from_inline(data.table, max_bytes=max_bytes)
    else:
        raise InvalidInput("the data is missing: give a path or a table")
    _check_names([str(name) for name in frame.columns])
    frame.columns = pd.Index([str(name) for name in frame.columns])
    if len(frame) == 0:
        raise InvalidInput("the table has no rows")
    return frame


def from_inline(table: table_pb2.InlineTable, *, max_bytes: int = MAX_BYTES) -> pd.DataFrame:
    """The data frame of a table inside a message."""
    return _read_arrow(table.arrow, max_bytes) if table.arrow else _read_rows(table)


def to_inline(frame: pd.DataFrame, *, arrow: bool) -> table_pb2.InlineTable:
    """A table for a message: an Arrow stream compressed with zstd, or rows that people can read."""
    if arrow:
        import pyarrow as pa

        content = pa.Table.from_pandas(frame, preserve_index=False)
        return table_pb2.InlineTable(arrow=arrow_stream.dump(content))
    table = table_pb2.InlineTable(columns=[str(name) for name in frame.columns])
    for row in zip(*(_plain_values(frame.iloc[:, index]) for index in range(frame.shape[1])), strict=True):
        table.rows.add().extend(row)
    return table


def write(frame: pd.DataFrame, file: BinaryIO, name: str) -> str:
    """Writes CSV or Parquet, by the ending of `name`; returns the media type."""
    if name.lower().endswith(".parquet"):
        frame.to_parquet(file, index=False)
        return "application/vnd.apache.parquet"
    if name.lower().endswith(".csv"):
        frame.to_csv(file, index=False)
        return "text/csv"
    raise InvalidInput(f"{name!r} must end in .csv or .parquet")


def _plain_values(column: pd.Series) -> list[str | float | bool | None]:
    if isinstance(column.dtype, (pd.DatetimeTZDtype,)) or column.dtype.kind in "Mm":
        column = column.astype(str).where(column.notna(), None)
    values = column.astype(object).where(column.notna(), None).tolist()
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def _read_file(
    folders: Folders, path: str, text_columns: Collection[str], progress: Progress | None, max_bytes: int
) -> pd.DataFrame:
    name = path.lower()
    if not name.endswith((".csv", ".csv.gz", ".csv.zip", ".parquet")):
        raise InvalidInput(f"{path!r} is of an unknown kind: give a .csv, .csv.gz, .csv.zip or .parquet file")
    with open_for_reading(folders, path) as file:
        if name.endswith(".parquet"):
            return _read_parquet(file, path, max_bytes)
        with ExitStack() as stack:
            try:
                content = _inflated(file, path, stack)
                return _read_csv(content, file, path, text_columns, progress, max_bytes)
            except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
                raise InvalidInput(f"{path!r} is damaged or not what its ending says: {error}") from None


def _inflated(file: BinaryIO, path: str, stack: ExitStack) -> BinaryIO:
    if path.lower().endswith(".gz"):
        return stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))  # type: ignore[return-value]
    if not path.lower().endswith(".zip"):
        return file
    archive = stack.enter_context(zipfile.ZipFile(file))
    members = [entry for entry in archive.infolist() if not (entry.is_dir() or entry.filename.startswith("__MACOSX/"))]
    if len(members) != 1:
        raise InvalidInput(f"{path!r} holds {len(members)} files: give a zip with exactly one CSV file")
    return stack.enter_context(archive.open(members[0]))  # type: ignore[return-value]


class _Measured(io.RawIOBase):
    """A stream that gives back its first bytes, counts, and stops at a limit."""

    def __init__(self, head: bytes, rest: BinaryIO, tick: Callable[[], None], max_bytes: int, path: str) -> None:
        self._head, self._rest, self._tick = head, rest, tick
        self._left, self._max_bytes, self._path = max_bytes, max_bytes, path

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
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _read_csv(
    content: BinaryIO,
    file: BinaryIO,
    path: str,
    text_columns: Collection[str],
    progress: Progress | None,
    max_bytes: int,
) -> pd.DataFrame:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = b""
    while len(head) < MAX_HEADER_BYTES and b"\n" not in head and (chunk := content.read(1 << 16)):
        head += chunk
    delimiter, names = _header(head, path)
    _check_names(names)
    text_columns = set(text_columns)

    def tick() -> None:
        if progress is not None and size:
            progress(min(file.tell() / size, 1.0))

    try:
        return pd.read_csv(
            io.BufferedReader(_Measured(head, content, tick, max_bytes, path), 1 << 18),
            sep=delimiter,
            compression=None,
            encoding="utf-8-sig",
            low_memory=False,
            index_col=False,
            dtype={name: str for name in names if name in text_columns},
        )
    except UnicodeDecodeError:
        raise InvalidInput(f"{path!r} is not UTF-8 text: save it as UTF-8 and try again") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError, csv.Error) as error:
        raise InvalidInput(f"{path!r} cannot be read as CSV: {error}") from None


def _header(head: bytes, path: str) -> tuple[str, list[str]]:
    """The delimiter (comma, semicolon, tab or bar, by the first line) and the column names."""
    text = head.decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise InvalidInput(f"{path!r} is empty: its first line must name the columns")
    if "\n" not in text and "\r" not in text and len(head) >= MAX_HEADER_BYTES:
        raise InvalidInput(f"the first line of {path!r} is longer than {MAX_HEADER_BYTES:,} bytes: is it a CSV file?")
    first = next(line for line in text.splitlines() if line.strip())
    delimiter = "," if "," in first else max(",;\t|", key=first.count)
    try:
        names = next(row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row)
    except (csv.Error, StopIteration) as error:
        raise InvalidInput(f"the first line of {path!r} does not name columns: {error}") from None
    return delimiter, [name or f"Unnamed: {index}" for index, name in enumerate(names)]


def _read_parquet(file: BinaryIO, path: str, max_bytes: int) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        names = parquet.schema_arrow.names
        _check_names(names)
        groups = range(parquet.metadata.num_row_groups)
        size = sum(parquet.metadata.row_group(group).total_byte_size for group in groups)
        if size > max_bytes:
            raise InvalidInput(f"{path!r} holds {size:,} bytes, more than {max_bytes:,}: give a smaller table")
        frame: pd.DataFrame = parquet.read().to_pandas()
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path!r} cannot be read as Parquet: {error}") from None
    if isinstance(frame.index, pd.RangeIndex):
        return frame
    return frame.reset_index(drop=all(name is None for name in frame.index.names))


def _read_arrow(content: bytes, max_bytes: int) -> pd.DataFrame:
    import pyarrow as pa

    batches, size = [], 0
    try:
        with pa.ipc.open_stream(pa.py_buffer(content)) as reader:
            _check_names(reader.schema.names)
            for batch in reader:
                batch.validate(full=True)  # offsets that point outside would crash the process
                size += batch.nbytes
                if size > max_bytes:
                    raise InvalidInput(f"the table holds more than {max_bytes:,} bytes: give it as a file")
                batches.append(batch)
        table = arrow_stream.restored(pa.Table.from_batches(batches, schema=reader.schema), max_bytes)
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError, EOFError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the table is not a readable Arrow stream: {error}") from None
    return frame


def _read_rows(table: table_pb2.InlineTable) -> pd.DataFrame:
    columns = list(table.columns)
    _check_names(columns)
    wrong = [number for number, row in enumerate(table.rows, 1) if len(row.values) != len(columns)]
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise InvalidInput(f"each row must have {len(columns)} values, one for each column; wrong: row {shown}")
    rows = [[_value(value) for value in row.values] for row in table.rows]
    return pd.DataFrame({name: _column([row[index] for row in rows]) for index, name in enumerate(columns)})


def _value(value: object) -> str | float | bool | None:
    kind = value.WhichOneof("kind")  # type: ignore[attr-defined]
    if kind in ("struct_value", "list_value"):
        raise InvalidInput("a value in a row must be a number, a string, a bool or null, not a list or an object")
    return None if kind in (None, "null_value") else getattr(value, kind)


def _column(values: Sequence[str | float | bool | None]) -> pd.Series:
    """Numbers in messages are doubles: a column of whole ones becomes integers again."""
    kinds = {type(value) for value in values}
    if kinds == {float} and all(
        isinstance(value, float) and value.is_integer() and abs(value) < 2**53 for value in values
    ):
        return pd.Series(values, dtype="int64")
    return pd.Series(values, dtype="float64" if kinds <= {float, type(None)} else None)


def _check_names(names: Iterable[str]) -> None:
    names = list(names)
    if not names:
        raise InvalidInput("the table has no columns")
    if len(names) > MAX_COLUMNS:
        raise InvalidInput(f"the table has {len(names):,} columns, more than {MAX_COLUMNS:,}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        shown = ", ".join(map(repr, twice[:10]))
        raise InvalidInput(f"each column needs a name of its own; more than once: {shown}")
