"""Parquet files as data frames: measured page by page before anything is unpacked."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from towpath_worker.caps import Caps
from towpath_worker.errors import InvalidInput
from towpath_worker.parquet_pages import Page, pages

#: Of the footer: a table of 20,000 columns in ten row groups takes about 20 MB.
MAX_FOOTER_BYTES = 64 << 20
MAX_PAGES = 2_000_000
_NULLABLE: dict[str, Any] = {
    name: pd.api.types.pandas_dtype(name)
    for name in (
        "boolean",
        "Float32",
        "Float64",
        *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    )
}


def read(file: BinaryIO, path: str, caps: Caps) -> pd.DataFrame:
    """The table in an open file; its index, if it has a named one, as columns. Raises InvalidInput."""
    try:
        _check_footer(file, path)
        parquet = pq.ParquetFile(file)
        schema, metadata = parquet.schema_arrow, parquet.metadata
        caps.check_names(repr(path), schema.names)
        caps.check(repr(path), rows=metadata.num_rows, columns=metadata.num_columns)
        coded = _survey(file, path, parquet, caps)
        table = pq.ParquetFile(file, read_dictionary=coded).read()
        return _as_pandas(_written_out(table, schema, path, caps), schema.metadata or {})
    except (pa.ArrowException, OSError, ValueError, TypeError, EOFError, RecursionError) as error:
        raise InvalidInput(f"{path!r} cannot be read as Parquet: {error}") from None


def _check_footer(file: BinaryIO, path: str) -> None:
    length = file.seek(0, 2)
    if length < 12:
        raise ValueError("it is too short")
    file.seek(-8, 2)
    size = int.from_bytes(file.read(4), "little")
    if MAX_FOOTER_BYTES < size < length:
        raise InvalidInput(f"{path!r} has a footer of {size:,} bytes, more than {MAX_FOOTER_BYTES:,}: too many columns")
    file.seek(0)


def _survey(file: BinaryIO, path: str, parquet: pq.ParquetFile, caps: Caps) -> list[str]:
    """Adds up what all pages will take; the columns of texts that are coded by a dictionary: see `_written_out`."""
    metadata, names = parquet.metadata, set(parquet.schema_arrow.names)
    size = values = count = rows = 0
    coded = set()
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        rows += group.num_rows
        for index in range(group.num_columns):
            chunk, kind = group.column(index), metadata.schema.column(index)
            values += chunk.num_values
            size += chunk.num_values * max(8, kind.length or 0)
            caps.check(repr(path), rows=rows, cells=values, size=size)
            is_text, is_nested = chunk.physical_type == "BYTE_ARRAY", chunk.path_in_schema not in names
            longest = 0
            for page in pages(file, _start(chunk), chunk.total_compressed_size, chunk.num_values):
                count += 1
                size += page.size + (page.values * page.size if page.prefixed else 0)
                caps.check(repr(path), size=size)
                if page.is_dictionary and is_text and is_nested:
                    longest = max(longest, _longest(file, page, chunk.compression))
                elif page.coded and is_text and is_nested:
                    size += page.values * longest
                elif page.coded and is_text:
                    coded.add(chunk.path_in_schema)
                if count > MAX_PAGES:
                    raise InvalidInput(f"{path!r} has more than {MAX_PAGES:,} pages: write it with larger ones")
            caps.check(repr(path), size=size)
    file.seek(0)
    return sorted(coded)


def _start(chunk: pq.ColumnChunkMetaData) -> int:
    dictionary = chunk.dictionary_page_offset or 0
    return dictionary if 0 < dictionary < chunk.data_page_offset else chunk.data_page_offset


def _longest(file: BinaryIO, page: Page, codec: str) -> int:
    """The longest text of a dictionary; no more than all of it."""
    file.seek(page.start)
    content = file.read(page.packed)
    if codec != "UNCOMPRESSED":
        try:
            content = pa.decompress(content, page.size, codec.lower(), asbytes=True)
        except (pa.ArrowException, OSError, ValueError):
            return page.size
    longest = at = 0
    while at + 4 <= len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        longest, at = max(longest, length), at + 4 + length
    return min(longest, page.size)


def _written_out(table: pa.Table, schema: pa.Schema, path: str, caps: Caps) -> pa.Table:
    """Columns that were only read as places in a dictionary, as what they are, where that is not too much."""
    size = 0
    for index, field in enumerate(schema):
        column = table.column(index)
        if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(field.type):
            size += sum(_bytes_of(chunk) for chunk in column.chunks)
            caps.check(repr(path), size=size)
            table = table.set_column(index, field, column.cast(field.type))
    return table


def _bytes_of(chunk: pa.DictionaryArray) -> int:
    """How many bytes the texts take once each stands in its own row."""
    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
    counted = pc.sum(pc.take(lengths, chunk.indices)).as_py()
    return int(counted or 0)


def _as_pandas(table: pa.Table, metadata: dict[bytes, bytes]) -> pd.DataFrame:
    """The data frame; named parts of an index come first, as columns, and a nameless one is left out.

    pandas itself is not asked to read what the file says for it, but for the index and numbers that may be missing.
    """
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    try:
        told: Any = json.loads(metadata.get(b"pandas", b"{}"))
        index = [name for name in told.get("index_columns", []) if isinstance(name, str)]
        kinds = {str(one["field_name"]): _NULLABLE.get(str(one["numpy_type"])) for one in told.get("columns", [])}
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return frame
    for name, kind in kinds.items():
        if kind is not None and name in frame.columns:
            frame[name] = table.column(name).to_pandas(types_mapper=lambda _, kind=kind: kind)
    first = [name for name in dict.fromkeys(index) if name in frame.columns]
    nameless = {name for name in first if name.startswith("__index_level_")}
    order = [*first, *(name for name in frame.columns if name not in set(first))]
    return frame[[name for name in order if name not in nameless]] if first else frame
