"""Tables on their way to a handler and back: a path on the worker's machine, or a small table inside the message."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

from towpath import arrow_stream
from towpath.errors import InvalidArgument
from towpath.v1 import table_pb2
from towpath.values import from_value, to_list_value

if TYPE_CHECKING:
    import pandas
    import pyarrow

Rows: TypeAlias = Sequence[Mapping[str, Any]]
TableLike: TypeAlias = "str | PurePath | pandas.DataFrame | pyarrow.Table | Rows | table_pb2.InlineTable"

# A message takes 4 MiB, and more than the table is in it.
MAX_BYTES = 4 * 1024 * 1024 - 64 * 1024
# Up to here rows are quick enough, and readable in grpcurl.
MAX_ROW_CELLS = 2_000


def to_data_ref(data: TableLike) -> table_pb2.DataRef:
    """Where a table is: text or a path names a file on the worker's machine, anything else travels in the message."""
    if isinstance(data, str | PurePath):
        return table_pb2.DataRef(path=str(data))
    return table_pb2.DataRef(table=to_inline(data))


def to_inline(data: Any) -> table_pb2.InlineTable:
    """A DataFrame, a pyarrow.Table or a list of dicts as a message: Arrow where pyarrow is installed, else rows."""
    table = _inline(data)
    if (size := table.ByteSize()) > MAX_BYTES:
        raise InvalidArgument(
            f"The table takes {size / 2**20:.1f} MiB and a message at most {MAX_BYTES / 2**20:.1f}. "
            "Write it as .csv or .parquet under a data folder of the worker, and give that path instead."
        )
    return table


def _inline(data: Any) -> table_pb2.InlineTable:
    if isinstance(data, table_pb2.InlineTable):
        return data
    if _is("pyarrow", "Table", data):
        return _from_arrow(data)
    if _is("pandas", "DataFrame", data):
        if find_spec("pyarrow"):
            import pyarrow

            return _from_arrow(_arrow_of_frame(pyarrow, data))
        return _from_rows([str(name) for name in data.columns], _rows_of_frame(data))
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _from_dicts(data)
    raise InvalidArgument(
        f"Cannot send a {type(data).__name__} as a table. Give a path on the worker, a pandas.DataFrame, "
        "a pyarrow.Table or a list of dicts."
    )


def _is(module: str, name: str, data: object) -> bool:
    """Whether data is of that class, without importing its library: who has made one has imported it."""
    return (loaded := sys.modules.get(module)) is not None and isinstance(data, getattr(loaded, name))


def _arrow_of_frame(pyarrow: Any, frame: pandas.DataFrame) -> pyarrow.Table:
    try:
        table: pyarrow.Table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise InvalidArgument(f"A column does not fit into a table: {' '.join(map(str, error.args))}") from None
    return table.rename_columns([str(name) for name in frame.columns])


def _from_arrow(table: pyarrow.Table) -> table_pb2.InlineTable:
    if not table.column_names:
        raise InvalidArgument("The table has no columns.")
    return table_pb2.InlineTable(arrow=arrow_stream.dump(table))


def _rows_of_frame(frame: pandas.DataFrame) -> list[list[Any]]:
    plain = frame.astype(object).where(frame.notna(), None)
    return [list(row) for row in plain.itertuples(index=False, name=None)]


def _from_dicts(rows: Sequence[Any]) -> table_pb2.InlineTable:
    if not all(isinstance(row, Mapping) for row in rows):
        raise InvalidArgument("A list must hold a dict for each row, as in [{'a': 1, 'b': 'x'}, ...].")
    # A dict keeps the order in which the names first come.
    names = list({str(name): None for row in rows for name in row})
    if not names:
        raise InvalidArgument("The table has no rows.")
    if len(rows) * len(names) > MAX_ROW_CELLS and find_spec("pyarrow"):
        import pyarrow

        try:
            return _from_arrow(pyarrow.table({name: [row.get(name) for row in rows] for name in names}))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            # A column of mixed types: rows carry it.
            pass
    return _from_rows(names, [[row.get(name) for name in names] for row in rows])


def _from_rows(names: list[str], rows: list[list[Any]]) -> table_pb2.InlineTable:
    table = table_pb2.InlineTable(columns=names)
    for index, row in enumerate(rows):
        # A missing number is nan in pandas, and null in JSON.
        table.rows.append(to_list_value([None if value != value else value for value in row], f"rows[{index}]"))
    return table


def to_rows(table: table_pb2.InlineTable) -> list[dict[str, Any]]:
    """A dict a row."""
    if table.arrow:
        found: list[dict[str, Any]] = to_arrow(table).to_pylist()
        return found
    names = list(table.columns)
    return [dict(zip(names, map(from_value, row.values), strict=True)) for row in table.rows]


def to_arrow(table: table_pb2.InlineTable) -> pyarrow.Table:
    """A pyarrow.Table; without pyarrow an ImportError that says what to install."""
    try:
        import pyarrow
    except ImportError:
        raise ImportError("This table came as Arrow. Install pyarrow to read it: pip install pyarrow") from None
    if table.arrow:
        with pyarrow.ipc.open_stream(table.arrow) as reader:
            return arrow_stream.restored(reader.read_all())
    columns = list(zip(*([from_value(value) for value in row.values] for row in table.rows), strict=True))
    return pyarrow.table(dict(zip(table.columns, map(list, columns or [()] * len(table.columns)), strict=True)))


def to_pandas(table: table_pb2.InlineTable) -> pandas.DataFrame:
    """A DataFrame; without pandas an ImportError that says what to install."""
    try:
        import pandas
    except ImportError:
        raise ImportError("Install pandas to get a DataFrame: pip install pandas") from None
    if table.arrow:
        frame: pandas.DataFrame = to_arrow(table).to_pandas()
        return frame
    return pandas.DataFrame(to_rows(table), columns=pandas.Index(list(table.columns)))
