"""Tables that came as Arrow streams inside messages: measured before their buffers are inflated.

What a message says of its buffers is read by hand, from its flatbuffer: pyarrow would inflate them first.
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from towpath import arrow_stream
from towpath_worker.caps import Caps
from towpath_worker.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

WHAT = "the table"


def read(content: bytes, caps: Caps) -> pd.DataFrame:
    """The data frame of a stream. Raises InvalidInput."""
    import pyarrow as pa

    try:
        _survey(content, caps)
        batches, rows = [], 0
        with pa.ipc.open_stream(pa.py_buffer(content)) as reader:
            caps.check_names(WHAT, reader.schema.names)
            _check_kinds(reader.schema)
            for batch in reader:
                batch.validate(full=True)  # offsets that point outside would crash the process
                rows += batch.num_rows
                caps.check(WHAT, rows=rows, columns=batch.num_columns)
                batches.append(batch)
        table = pa.Table.from_batches(batches, schema=reader.schema)
        caps.check(WHAT, size=_unfolded(table))
        frame: pd.DataFrame = arrow_stream.restored(table, caps.max_bytes).to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError, TypeError, EOFError, struct.error) as error:
        raise InvalidInput(f"the table is not a readable Arrow stream: {error}") from None
    return frame


def _check_kinds(schema: pyarrow.Schema) -> None:
    """Those whose values may all point at the same bytes are left out."""
    import pyarrow as pa

    waiting = [(field.name, field.type, False) for field in schema]
    while waiting:
        name, kind, inside = waiting.pop()
        # One in a dictionary inside another is written out before anybody can say how long it is.
        coded = pa.types.is_dictionary(kind)
        if pa.types.is_union(kind) or pa.types.is_run_end_encoded(kind) or "view" in str(kind) or (inside and coded):
            raise InvalidInput(
                f"column {name!r} is of type {str(kind)[:100]}: send numbers, text, dates or truth values"
            )
        if isinstance(kind, pa.BaseExtensionType):
            waiting.append((name, kind.storage_type, inside))
            continue
        if coded:
            waiting.append((name, kind.value_type, True))
        waiting += [(name, kind.field(index).type, True) for index in range(kind.num_fields)]


def _unfolded(table: pyarrow.Table) -> int:
    """At most so many bytes take the texts that were sent once each, when each stands in its own row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    size = 0
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_dictionary(column.type) and arrow_stream.WAS in (field.metadata or {}):
            for chunk in column.chunks:
                size += (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) * len(chunk)
    return size


def _survey(content: bytes, caps: Caps) -> None:
    """Adds up what all messages will take once inflated. Raises InvalidInput, ValueError or struct.error."""
    import pyarrow as pa

    size = values = 0
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(content)):
        if message.type not in ("record batch", "dictionary") or message.body is None:
            continue
        batch = _Table.root(memoryview(message.metadata)).table(2)
        if batch is None or (message.type == "dictionary" and (batch := batch.table(1)) is None):
            raise ValueError("a message without data")
        compressed, body = batch.table(3) is not None, memoryview(message.body)
        for length, _nulls in batch.pairs(1):
            values += _positive(length)
        for offset, length in batch.pairs(2):
            size += _inflated(body, _positive(offset), _positive(length)) if compressed else _positive(length)
        caps.check(WHAT, rows=_positive(batch.number(0)), cells=values, size=size)


def _inflated(body: memoryview, offset: int, length: int) -> int:
    """A compressed buffer begins with its size; -1: it is as it is."""
    if length == 0:
        return 0
    (size,) = struct.unpack_from("<q", body, offset)
    return length if size == -1 else _positive(size)


def _positive(number: int) -> int:
    if number < 0:
        raise ValueError("a negative length")
    return number


class _Table:
    """A flatbuffer's table: fields by number, found through its list of offsets."""

    def __init__(self, content: memoryview, at: int) -> None:
        self._content, self._at = content, at
        (back,) = struct.unpack_from("<i", content, at)
        self._offsets = _positive(at - back)
        (self._end,) = struct.unpack_from("<H", content, self._offsets)

    @classmethod
    def root(cls, content: memoryview) -> _Table:
        """The outermost table."""
        return cls(content, *struct.unpack_from("<I", content, 0))

    def number(self, field: int) -> int:
        """A field of 64 bits; 0 where it is left out."""
        at = self._place(field)
        return int(struct.unpack_from("<q", self._content, at)[0]) if at else 0

    def table(self, field: int) -> _Table | None:
        """A field that is a table."""
        at = self._pointed(field)
        return _Table(self._content, at) if at else None

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """A field that is a list of two 64-bit numbers each."""
        at = self._pointed(field)
        if at:
            (count,) = struct.unpack_from("<I", self._content, at)
            if at + 4 + 16 * count > len(self._content):
                raise ValueError("a list that is longer than its message")
            yield from struct.iter_unpack("<qq", self._content[at + 4 : at + 4 + 16 * count])

    def _place(self, field: int) -> int:
        slot = 4 + 2 * field
        if slot + 2 > self._end:
            return 0
        (offset,) = struct.unpack_from("<H", self._content, self._offsets + slot)
        return self._at + int(offset) if offset else 0

    def _pointed(self, field: int) -> int:
        at = self._place(field)
        return at + int(struct.unpack_from("<I", self._content, at)[0]) if at else 0
