"""Tables in and out, and the tables that are refused."""

from __future__ import annotations

import datetime
import gzip
import io
import struct
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from google.protobuf.struct_pb2 import ListValue

from support.handling import make_folders
from towpath.v1 import table_pb2
from towpath_worker import csv_files, tables
from towpath_worker.caps import Caps
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders

TEXT = "name,count,share,seen\nann,1,0.5,True\nbob,2,,False\n"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return make_folders(tmp_path)


def read(folders: Folders, path: str, caps: Caps | None = None) -> pd.DataFrame:
    capped = Folders(folders.data, folders.models, folders.results, caps=caps or Caps())
    return tables.read(capped, table_pb2.DataRef(path=path))


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, TEXT)
    return content.getvalue()


def expected() -> pd.DataFrame:
    return pd.read_csv(io.StringIO(TEXT))


def test_reads_each_kind_of_file(folders: Folders) -> None:
    data = folders.data[0]
    (data / "a.csv").write_text(TEXT)
    (data / "bom.CSV").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    (data / "crlf.csv").write_bytes(TEXT.replace("\n", "\r\n").encode())
    (data / "semicolon.csv").write_text(TEXT.replace(",", ";"))
    (data / "tab.csv").write_text(TEXT.replace(",", "\t"))
    (data / "a.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    (data / "a.csv.zip").write_bytes(zipped("a.csv", "__MACOSX/a.csv"))
    expected().to_parquet(data / "a.parquet")
    for path in sorted(data.iterdir()):
        pd.testing.assert_frame_equal(read(folders, path.name), expected(), obj=path.name)


def test_parquet_keeps_a_named_index_as_a_column(folders: Folders) -> None:
    expected().set_index("name").to_parquet(folders.data[0] / "named.parquet")
    expected().set_axis(["x", "y"]).to_parquet(folders.data[0] / "unnamed.parquet")
    assert list(read(folders, "named.parquet").columns) == ["name", "count", "share", "seen"]
    assert list(read(folders, "unnamed.parquet").columns) == ["name", "count", "share", "seen"]


def test_quoted_names_and_text_columns(folders: Folders) -> None:
    (folders.data[0] / "a.csv").write_text('"a, b",zip\n1,007\n')
    frame = tables.read(folders, table_pb2.DataRef(path="a.csv"), text_columns={"zip", "other"})
    assert frame.to_dict("list") == {"a, b": [1], "zip": ["007"]}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\n  \n", "is empty"),
        ("a.csv", b"a,b\n", "no rows"),
        ("a.csv", b"a,b,a\n1,2,3\n", "more than once: 'a'"),
        ("a.csv", b"a,b\n1,2\n1,2,3,4\n", "cannot be read as CSV"),
        ("a.csv", b"a,b\n\xff\xfe,2\n", "UTF-8"),
        ("a.csv", b'a,b\n"1,2\n', "cannot be read as CSV"),
        ("a.csv", b"x" * (csv_files.MAX_LINE_BYTES + 1), "first line"),
        ("a.csv", ",".join(map(str, range(30_000))).encode() + b"\n", "30,000 columns"),
        ("a.csv.gz", b"no gzip", "damaged"),
        ("a.csv.gz", gzip.compress(TEXT.encode(), mtime=0)[:-10], "damaged"),
        ("a.csv.zip", b"no zip", "damaged"),
        ("a.csv.zip", zipped("a.csv", "b.csv"), "2 files"),
        ("a.csv.zip", zipped(), "0 files"),
        ("a.parquet", b"PAR1 no parquet PAR1", "Parquet"),
        ("a.parquet", b"", "Parquet"),
        ("a.pkl", b"", "unknown kind"),
        ("a.csv.bz2", b"", "unknown kind"),
    ],
)
def test_refuses_files(folders: Folders, name: str, content: bytes, told: str) -> None:
    (folders.data[0] / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=told):
        read(folders, name)


def test_stops_at_the_limit_of_bytes(folders: Folders) -> None:
    bomb = b"a,b\n" + b"1,2\n" * 500_000
    (folders.data[0] / "bomb.csv.gz").write_bytes(gzip.compress(bomb))
    pd.DataFrame({"a": range(200_000)}).to_parquet(folders.data[0] / "large.parquet")
    for path in ("bomb.csv.gz", "large.parquet"):
        with pytest.raises(InvalidInput, match="more than"):
            read(folders, path, Caps(max_bytes=1_000_000))
    assert len(read(folders, "bomb.csv.gz", Caps(max_bytes=len(bomb)))) == 500_000


def test_tells_how_much_is_read_and_can_be_stopped(folders: Folders) -> None:
    (folders.data[0] / "a.csv").write_bytes(b"a,b\n" + b"1,2\n" * 2_000_000)
    shares: list[float] = []

    def stop_halfway(share: float) -> None:
        shares.append(share)
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tables.read(folders, table_pb2.DataRef(path="a.csv"), progress=stop_halfway)
    assert shares == sorted(shares)
    assert len(shares) > 2


def test_rows_come_back_as_they_were() -> None:
    rows: list[list[str | float | bool | None]] = [["ann", 1, 0.5, True, None], ["bob", 2, None, False, None]]
    table = table_pb2.InlineTable(columns=["name", "count", "share", "seen", "none"])
    for row in rows:
        table.rows.add().extend(row)
    frame = tables.from_inline(table)
    assert [str(dtype) for dtype in frame.dtypes] == ["str", "int64", "float64", "bool", "float64"]
    assert tables.to_inline(frame, arrow=False) == table


def test_dates_and_infinities_go_into_rows() -> None:
    frame = pd.DataFrame({"when": [datetime.datetime(2013, 1, 31, 17, 5), None], "number": [float("inf"), 1.5]})
    sent = tables.to_inline(frame, arrow=False)
    assert [list(row) for row in sent.rows] == [["2013-01-31 17:05:00", None], [None, 1.5]]


def test_arrow_round_trip_is_compressed() -> None:
    frame = pd.DataFrame({"name": ["ann", None] * 5_000, "count": range(10_000), "seen": [True, False] * 5_000})
    sent = tables.to_inline(frame, arrow=True)
    assert len(sent.arrow) < 60_000
    pd.testing.assert_frame_equal(tables.from_inline(sent), frame)


def test_repeated_texts_do_not_unfold_beyond_the_limit() -> None:
    frame = pd.DataFrame({"text": ["x" * 1_000] * 5_000})
    sent = tables.to_inline(frame, arrow=True)
    assert len(sent.arrow) < 10_000
    pd.testing.assert_frame_equal(tables.from_inline(sent, Caps(max_bytes=5_000_000)), frame)
    with pytest.raises(InvalidInput, match="5,000,000 bytes, more than 4,999,999"):
        tables.from_inline(sent, Caps(max_bytes=4_999_999))


def arrow(batch: pa.RecordBatch) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def pointing_outside() -> bytes:
    """Text whose offsets lie outside its bytes."""
    content = arrow(pa.record_batch([pa.array(["x" * 12_345])], names=["a"]))
    head, offsets, text = content.rpartition(struct.pack("<ii", 0, 12_345))
    assert offsets
    return head + struct.pack("<ii", 0, 2_000_000_000) + text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"garbage", "not a readable Arrow stream"),
        (arrow(pa.record_batch([pa.array([1, 2])], names=["a"]))[:-30], "not a readable Arrow stream"),
        (pointing_outside(), "not a readable Arrow stream"),
        (arrow(pa.record_batch([pa.array([1]), pa.array([2])], names=["a", "a"])), "more than once: 'a'"),
        (arrow(pa.record_batch([pa.array([], pa.int64())], names=["a"])), "no rows"),
    ],
)
def test_refuses_arrow(folders: Folders, content: bytes, told: str) -> None:
    table = table_pb2.InlineTable(arrow=content)
    with pytest.raises(InvalidInput, match=told):
        tables.read(folders, table_pb2.DataRef(table=table))


def test_refuses_rows(folders: Folders) -> None:
    def refused(table: table_pb2.InlineTable, told: str) -> None:
        with pytest.raises(InvalidInput, match=told):
            tables.read(folders, table_pb2.DataRef(table=table))

    short, nested = ListValue(), ListValue()
    short.extend([1])
    nested.extend([1])
    nested.values.add().list_value.extend([2])
    refused(table_pb2.InlineTable(columns=["a", "b"]), "no rows")
    refused(table_pb2.InlineTable(columns=["a", "a"], rows=[short]), "more than once: 'a'")
    refused(table_pb2.InlineTable(columns=["a", "b"], rows=[nested, short]), "row 2")
    refused(table_pb2.InlineTable(columns=["a", "b"], rows=[nested]), "not a list or an object")
    refused(table_pb2.InlineTable(), "no columns")
    with pytest.raises(InvalidInput, match="data is missing"):
        tables.read(folders, table_pb2.DataRef())
