"""Tables on their way to a handler and back."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath import arrow_stream, tables
from towpath.errors import InvalidArgument
from towpath.v1 import table_pb2
from towpath_worker.tables import from_inline

FRAME = pd.DataFrame(
    {
        "number": [1.5, np.nan, -3.0],
        "whole": [1, 2, 2**40],
        "text": ["größe", None, "x"],
        "yes": [True, False, True],
        "day": pd.to_datetime(pd.Series(["2026-01-01", "2026-01-02", None])),
    }
)
ROWS = [{"a": 1, "b": "x", "c": None}, {"a": 2.5, "c": True}]


@pytest.mark.parametrize("path", ["flights.csv", Path("flights.csv"), PurePosixPath("flights.csv")])
def test_text_and_paths_name_a_file_on_the_worker(path: str | PurePosixPath) -> None:
    assert tables.to_data_ref(path) == table_pb2.DataRef(path="flights.csv")


def test_a_frame_travels_as_arrow_and_comes_back_the_same() -> None:
    sent = tables.to_inline(FRAME)
    assert sent.arrow
    assert not sent.columns
    back = tables.to_pandas(sent)
    pd.testing.assert_frame_equal(back, FRAME)
    assert tables.to_rows(sent)[1] == {
        "number": None,
        "whole": 2,
        "text": None,
        "yes": False,
        "day": FRAME["day"][1].to_pydatetime(),
    }


def test_an_arrow_table_comes_back_the_same_without_its_metadata() -> None:
    table = pa.table({"a": [1, None], "b": ["x", "y"]}).replace_schema_metadata({"secret": "path"})
    sent = tables.to_inline(table)
    assert b"secret" not in sent.arrow
    assert tables.to_arrow(sent).equals(table.replace_schema_metadata(None))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_large_table_comes_back_the_same_however_it_is_made_smaller(data: st.DataObject) -> None:
    rows = arrow_stream.MIN_ROWS + 5
    few = data.draw(st.lists(st.none() | st.text(max_size=5), min_size=1, max_size=9))
    whole = data.draw(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9))
    small = data.draw(st.lists(st.none() | st.integers(-140, 140), min_size=1, max_size=9))

    def column(values: list[Any], kind: pa.DataType) -> pa.ChunkedArray:
        repeated = (values * (rows // len(values) + 1))[:rows]
        cut = data.draw(st.integers(0, rows))
        return pa.chunked_array([pa.array(repeated[:cut], kind), pa.array(repeated[cut:], kind)])

    table = pa.table(
        {
            "text": column(few, data.draw(st.sampled_from([pa.string(), pa.large_string()]))),
            "own": column([f"{number} ä" for number in range(rows)], pa.string()),
            "whole": column(whole, pa.int64()),
            "small": column(small, data.draw(st.sampled_from([pa.int64(), pa.int16(), pa.float64()]))),
            "category": column(few, pa.string()).combine_chunks().dictionary_encode(),
        }
    )
    sent = tables.to_inline(table)
    assert tables.to_arrow(sent).equals(table)
    frame = table.to_pandas()
    pd.testing.assert_frame_equal(from_inline(sent), frame)


def test_a_large_table_takes_fewer_bytes_than_its_plain_stream() -> None:
    table = pa.table({"a": list(range(5_000)), "b": ["some text", "other text"] * 2_500})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    assert tables.to_inline(table).ByteSize() < 0.7 * sink.getvalue().size


def test_arrow_is_compressed() -> None:
    assert tables.to_inline(pd.DataFrame({"a": np.zeros(1_000_000)})).ByteSize() < 100_000


def test_dicts_travel_as_rows_in_which_what_is_missing_is_null() -> None:
    sent = tables.to_inline(ROWS)
    assert list(sent.columns) == ["a", "b", "c"]
    assert tables.to_rows(sent) == [{"a": 1, "b": "x", "c": None}, {"a": 2.5, "b": None, "c": True}]
    assert tables.to_arrow(sent)["a"].to_pylist() == [1.0, 2.5]
    assert list(tables.to_pandas(sent)["c"]) == [None, True]
    assert tables.to_rows(tables.to_inline([{"a": float("nan")}])) == [{"a": None}]


def test_many_dicts_travel_as_arrow_unless_a_column_is_mixed() -> None:
    many = [{"a": number, "b": str(number)} for number in range(2000)]
    assert tables.to_inline(many).arrow
    assert tables.to_rows(tables.to_inline(many)) == many
    mixed = [*many, {"a": "text", "b": "x"}]
    assert not tables.to_inline(mixed).arrow
    assert tables.to_rows(tables.to_inline(mixed)) == mixed


def test_without_pyarrow_frames_travel_as_rows_and_arrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    arrow = tables.to_inline(FRAME)
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    sent = tables.to_inline(FRAME)
    assert tables.to_rows(sent)[0] == {
        "number": 1.5,
        "whole": 1,
        "text": "größe",
        "yes": True,
        "day": "2026-01-01T00:00:00",
    }
    assert tables.to_rows(sent)[1]["number"] is None
    with pytest.raises(ImportError, match="pip install pyarrow"):
        tables.to_rows(arrow)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        tables.to_pandas(sent)


def test_a_table_too_large_for_a_message_says_to_give_a_path() -> None:
    noise = pd.DataFrame({"a": np.random.default_rng(1).random(1_000_000)})
    with pytest.raises(InvalidArgument, match=r"7\.\d MiB .* under a data folder of the worker"):
        tables.to_data_ref(noise)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "Cannot send a int"),
        (b"a,b", "Cannot send a bytes"),
        ([1, 2], "a dict for each row"),
        ([], "no rows"),
        ([{"a": {1}}], r"rows\[0\]\[0\]: cannot send a set"),
        (pa.table({}), "no columns"),
        (pd.DataFrame({"a": [1, object()]}), "does not fit"),
    ],
)
def test_what_is_no_table_is_refused_with_a_word_on_what_is(data: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        tables.to_inline(data)


def test_an_empty_table_of_rows_has_its_columns() -> None:
    empty = table_pb2.InlineTable(columns=["a", "b"])
    assert tables.to_rows(empty) == []
    assert tables.to_arrow(empty).column_names == ["a", "b"]
    assert list(tables.to_pandas(empty).columns) == ["a", "b"]
