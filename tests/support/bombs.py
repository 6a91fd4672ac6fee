"""Tables that are small on the disk and huge in memory, or that lie about it."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from towpath import arrow_stream

MANY = 300_000
MIB = 1 << 20
#: One more than `little_memory` reads.
WIDE = 2_001
ROW = b"1" * 29 + b",2\n"


def wide_csv() -> bytes:
    """300,000 columns."""
    return ",".join(f"c{number}" for number in range(MANY)).encode() + b"\n" + b"1," * (MANY - 1) + b"1\n"


def short_rows() -> bytes:
    """Rows of two bytes that become rows of 2,000 cells each."""
    return ",".join(f"c{number}" for number in range(2_000)).encode() + b"\n" + b"1\n" * 500_000


def long_line(start: bytes = b"1,", of: bytes = b"x") -> bytes:
    """A line of 10 MB in the middle."""
    return b"a,b\n" + b"1,2\n" * 100_000 + start + of * (10 * MIB) + b"\n" + b"1,2\n" * 10


def endless_quote() -> bytes:
    """A quoted text that begins in the middle and never ends."""
    return b"a,b\n" + b"1,2\n" * 1_000 + b'1,"' + b"1,2\n" * (3 * MIB)


def gzip_bomb() -> bytes:
    """10 GB in 10 MB: a thousand times the same."""
    return gzip.compress(b"a,b\n") + gzip.compress(ROW * (5 * MIB // 16), 9) * 1_000


def zipped(content: bytes, name: str = "a.csv", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of one file."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        archive.writestr(name, content)
    return sink.getvalue()


def zip_that_lies() -> bytes:
    """Both headers say that the file takes 100 bytes."""
    content = b"a,b\n" + ROW * (5 * MIB // 8)
    sound = zipped(content)
    true, lie = struct.pack("<I", len(content)), struct.pack("<I", 100)
    assert sound.count(true) == 2
    return sound.replace(true, lie)


def zip_of_many() -> bytes:
    """A list of 100,000 files, all the same one."""
    sound = zipped(b"a,b\n1,2\n")
    start = sound.index(b"PK\1\2")
    entry, end = sound[start : sound.index(b"PK\5\6")], sound[sound.index(b"PK\5\6") :]
    number = 100_000
    ending = bytearray(end)
    struct.pack_into("<HHI", ending, 8, 0xFFFF, 0xFFFF, len(entry) * number)
    return sound[:start] + entry * number + bytes(ending)


def parquet(table: pa.Table, **options: Any) -> bytes:
    """A Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def wide_parquet() -> bytes:
    """As many columns as take no long time to write."""
    kind = pa.schema([(f"c{number}", pa.bool_()) for number in range(WIDE)])
    return parquet(kind.empty_table(), compression="none", store_schema=False)


def zeros(count: int) -> pa.Array:
    """Numbers that compress well."""
    return pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(bytes(8 * count))])


def repeated_text(columns: int = 1) -> pa.Table:
    """One text of 1 MiB, 100,000 times."""
    codes = pa.Array.from_buffers(pa.int32(), 100_000, [None, pa.py_buffer(bytes(400_000))])
    text = pa.DictionaryArray.from_arrays(codes, pa.array(["x" * MIB]))
    return pa.table({f"c{number}": text for number in range(columns)})


def repeated_in_lists() -> bytes:
    """The same, as lists of one."""
    plain = repeated_text().column(0).chunk(0)
    offsets = pa.array(range(len(plain) + 1), pa.int32())
    return parquet(
        pa.table({"c": pa.ListArray.from_arrays(offsets, plain), "i": zeros(len(plain))}), store_schema=False
    )


def varint(number: int, length: int = 0) -> bytes:
    """A number as Thrift writes it, as long as is asked for."""
    number, content = number << 1, b""
    while number > 127 or len(content) + 1 < length:
        content, number = content + bytes([number & 127 | 128]), number >> 7
    return content + bytes([number])


def lying_footer() -> bytes:
    """One page of 24 MiB, of which the footer tells as if it were 80 bytes."""
    size = 3 * MIB
    content = parquet(
        pa.table({"a": zeros(size)}),
        use_dictionary=False,
        write_statistics=False,
        data_page_size=1 << 30,
        max_rows_per_page=size,
        row_group_size=size,
    )
    told = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).total_byte_size
    footer_at = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    body, footer = content[:footer_at], content[footer_at:]
    for true, lie in ((told, 80), (size, 10)):
        assert varint(true) in footer
        footer = footer.replace(varint(true), varint(lie, len(varint(true))))
    return body + footer


def lying_page() -> bytes:
    """A page whose header says that it takes 2 GB once unpacked."""
    kind = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    table = pa.table([zeros(MIB)], schema=kind)
    content = parquet(table, use_dictionary=False, data_page_size=1 << 30, max_rows_per_page=MIB)
    # The sizes lie between the header's fields: 0x15 begins each number of 32 bits.
    true = b"\x15\0\x15" + varint(8 * MIB)
    assert content.count(true) == 1
    return content.replace(true, b"\x15\0\x15" + varint((1 << 31) - 1, len(varint(8 * MIB))))


def stream(table: pa.Table, compression: str | None = "zstd") -> bytes:
    """An Arrow stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def inflating_stream() -> bytes:
    """80 MB of zeros in a few KB."""
    column = zeros(1_000_000)
    return stream(pa.table({f"c{number}": column for number in range(10)}))


def lying_stream() -> bytes:
    """A buffer that claims to take a terabyte once inflated."""
    sound = stream(pa.table({"a": zeros(100_000)}))
    true = struct.pack("<q", 800_000)
    assert sound.count(true) == 1
    return sound.replace(true, struct.pack("<q", 1 << 40))


def nothing_stream() -> bytes:
    """A trillion rows of nothing take no bytes at all."""
    sound = stream(pa.table({"a": pa.nulls(1_234_567)}), None)
    true = struct.pack("<q", 1_234_567)
    assert sound.count(true) >= 2
    return sound.replace(true, struct.pack("<q", 10**12))


def unfolding_stream() -> bytes:
    """Ten columns of one text each that stands in 100,000 rows, to be written out as towpath's own streams are."""
    table = repeated_text(10)
    fields = [field.with_metadata({arrow_stream.WAS: b"string"}) for field in table.schema]
    return stream(table.cast(pa.schema(fields)))


def viewed_stream() -> bytes:
    """Texts that are views of the same bytes."""
    return stream(pa.table({"a": pa.array(["x" * MIB]).cast(pa.string_view())}), None)


def runs_stream() -> bytes:
    """A million times the same, as one run."""
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([10**6], pa.int64()), pa.array(["x"]))
    return stream(pa.table({"a": runs}), None)


def nested_stream(disguised: bool = False) -> bytes:
    """A column of objects that all hold the same text, which was sent once."""
    text = repeated_text().slice(0, 500).column(0).chunk(0)
    column = pa.StructArray.from_arrays([text], ["c"])
    kind = pa.opaque(column.type, "a", "b")
    return stream(pa.table({"a": pa.ExtensionArray.from_storage(kind, column) if disguised else column}))


def wide_stream() -> bytes:
    """Too many columns."""
    return stream(pa.schema([(f"c{number}", pa.bool_()) for number in range(WIDE)]).empty_table(), None)


#: File name -> what makes it, and what must be said of it. `.arrow` is sent in a message.
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "wide.csv": (wide_csv, "300,000 columns, more than"),
    "wide.csv.gz": (lambda: gzip.compress(wide_csv(), 1), "300,000 columns, more than"),
    "wide.parquet": (wide_parquet, "2,001 columns, more than"),
    "wide.arrow": (wide_stream, "2,001 columns, more than"),
    "short_rows.csv": (short_rows, "rows of 2,000 columns"),
    "line.csv": (long_line, "a line that is longer"),
    "commas.csv": (lambda: long_line(of=b","), "a line that is longer"),
    "quoted.csv": (lambda: long_line(b'1,"'), "a line that is longer"),
    "line.csv.gz": (lambda: gzip.compress(long_line(), 1), "a line that is longer"),
    "returns.csv": (lambda: long_line().replace(b"\n", b"\r"), "first line"),
    "head.csv": (lambda: b"x" * (10 * MIB), "first line"),
    "quote.csv": (endless_quote, "cannot be read as CSV"),
    "bomb.csv.gz": (gzip_bomb, "more than 16,777,216 bytes"),
    "bomb.csv.zip": (lambda: zipped(b"a,b\n" + ROW * (5 * MIB // 8)), "more than 16,777,216 bytes"),
    "lies.csv.zip": (zip_that_lies, "damaged"),
    "bzip2.csv.zip": (lambda: zipped(b"1,2\n" * 1_000, method=zipfile.ZIP_BZIP2), "unusual way"),
    "nested.csv.zip": (lambda: zipped(zipped(b"1,2\n" * 10_000), "a.csv.zip"), ""),
    "many.csv.zip": (zip_of_many, "lists too many files"),
    "zeros.parquet": (lambda: parquet(pa.table({"a": zeros(4 * MIB)})), "more than"),
    "nulls.parquet": (lambda: parquet(pa.table({"a": pa.nulls(10_000_000, pa.bool_())})), "more than"),
    "text.parquet": (lambda: parquet(repeated_text(), store_schema=False), "bytes, more than 16,777,216"),
    "lists.parquet": (repeated_in_lists, "bytes, more than 16,777,216"),
    "prefix.parquet": (
        lambda: parquet(
            pa.table({"a": ["x" * 50_000] * 500}), use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"}
        ),
        "bytes, more than 16,777,216",
    ),
    "footer.parquet": (lying_footer, "bytes, more than 16,777,216"),
    "page.parquet": (lying_page, "bytes, more than 16,777,216"),
    "zeros.arrow": (inflating_stream, "more than"),
    "lies.arrow": (lying_stream, "bytes, more than 16,777,216"),
    "nothing.arrow": (nothing_stream, "more than"),
    "texts.arrow": (unfolding_stream, "bytes, more than 16,777,216"),
    "views.arrow": (viewed_stream, "string_view"),
    "runs.arrow": (runs_stream, "run_end_encoded"),
    "nested.arrow": (nested_stream, "is of type"),
    "disguised.arrow": (lambda: nested_stream(disguised=True), "is of type"),
}
