"""Tables in and out: CSV and Parquet files, rows and Arrow streams inside messages, as pandas data frames.

Files are opened by `paths` and handed to pandas as open files with the compression named: pandas itself would fetch
URLs, follow links and inflate without end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import BinaryIO

import pandas as pd

from towpath import arrow_stream
from towpath.v1 import table_pb2
from towpath_worker import arrow_tables, csv_files
from towpath_worker.caps import Caps
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders, open_for_reading

Progress = Callable[[float], None]


def read(
    folders: Folders,
    data: table_pb2.DataRef,
    *,
    text_columns: Collection[str] = (),
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The table that `data` names, with at least one row and one column and no column name twice.

    `text_columns` are read from CSV as text, also where they look like numbers. `progress` is called now and then with
    the share of a file read so far, 0 to 1; what it raises goes through. Raises InvalidInput, also for a table that is
    larger than `folders.caps`.
    """
    if data.WhichOneof("source") == "path":
        frame = _read_file(folders, data.path, text_columns, progress)
    elif data.WhichOneof("source") == "table":
        frame = from_inline(data.table, folders.caps)
    else:
        raise InvalidInput("the data is missing: give a path or a table")
    folders.caps.check_names("the table", [str(name) for name in frame.columns])
    frame.columns = pd.Index([str(name) for name in frame.columns])
    if len(frame) == 0:
        raise InvalidInput("the table has no rows")
    return frame


def from_inline(table: table_pb2.InlineTable, caps: Caps | None = None) -> pd.DataFrame:
    """The data frame of a table inside a message."""
    caps = caps or Caps()
    return arrow_tables.read(table.arrow, caps) if table.arrow else _read_rows(table, caps)


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


def _read_file(folders: Folders, path: str, text_columns: Collection[str], progress: Progress | None) -> pd.DataFrame:
    name = path.lower()
    if not name.endswith((".csv", ".csv.gz", ".csv.zip", ".parquet")):
        raise InvalidInput(f"{path!r} is of an unknown kind: give a .csv, .csv.gz, .csv.zip or .parquet file")
    with open_for_reading(folders, path) as file:
        if not name.endswith(".parquet"):
            return csv_files.read(file, path, text_columns, progress, folders.caps)
        from towpath_worker import parquet_files

        return parquet_files.read(file, path, folders.caps)


def _read_rows(table: table_pb2.InlineTable, caps: Caps) -> pd.DataFrame:
    columns = list(table.columns)
    caps.check_names("the table", columns)
    caps.check("the table", rows=len(table.rows), columns=len(columns))
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
