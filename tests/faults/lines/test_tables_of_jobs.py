"""Line 27 of the catalogue: a table that is larger than the caps is refused before its memory is taken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from support.bombs import BOMBS, MANY, parquet, repeated_text, stream
from support.handling import make_folders
from towpath.v1 import table_pb2
from towpath_worker import tables
from towpath_worker.caps import Caps
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders

FITTING = repeated_text().slice(0, 10)
#: In the same process, with the same memory: what fits must still be read.
SOUND = {
    "sound.csv": b"a,b\n" + b"1,2\n" * 500_000,
    "sound.parquet": parquet(FITTING, store_schema=False),
    "sound.arrow": stream(FITTING),
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured as on Linux")
def test_line_27_no_table_takes_more_memory_than_the_caps_allow(tmp_path: Path) -> None:
    for name, (make, _) in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    for name, content in SOUND.items():
        (tmp_path / name).write_bytes(content)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-m", "support.little_memory", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        timeout=120,
    )
    assert child.returncode == 0, child.stderr[-2_000:]
    said = json.loads(child.stdout)
    assert {name: said[name][0] for name in SOUND} == dict.fromkeys(SOUND, "read"), said
    for name, (_, told) in BOMBS.items():
        kind, text, grown = said[name]
        assert kind == "InvalidInput", (name, said[name])
        assert told in text, (name, text)
        assert "alloc" not in text, (name, text)
        assert grown < 200, (name, grown)


def test_line_27_each_cap_can_be_set(tmp_path: Path) -> None:
    folders = make_folders(tmp_path)
    data = folders.data[0]
    frame = pd.DataFrame({"a": range(1_000), "b": range(1_000)})
    frame.to_csv(data / "a.csv", index=False)
    frame.to_csv(data / "a.csv.gz", index=False)
    frame.to_parquet(data / "a.parquet")
    inline = [table_pb2.DataRef(table=tables.to_inline(frame, arrow=arrow)) for arrow in (True, False)]
    files = [table_pb2.DataRef(path=name) for name in ("a.csv", "a.csv.gz", "a.parquet")]

    def read(reference: table_pb2.DataRef, caps: Caps) -> pd.DataFrame:
        return tables.read(Folders(folders.data, folders.models, folders.results, caps=caps), reference)

    for reference in [*files, *inline]:
        for caps in (Caps(max_rows=1_000), Caps(max_columns=2), Caps(max_cells=2_000), Caps(max_bytes=64_000)):
            assert len(read(reference, caps)) == 1_000
        for caps in (Caps(max_rows=999), Caps(max_columns=1), Caps(max_cells=1_999)):
            with pytest.raises(InvalidInput, match="more than"):
                read(reference, caps)
    for reference in [*files, inline[0]]:
        with pytest.raises(InvalidInput, match="more than 1,000"):
            read(reference, Caps(max_bytes=1_000))


def test_line_27_rows_in_a_message_have_caps_too(tmp_path: Path) -> None:
    table = table_pb2.InlineTable(columns=[f"c{number}" for number in range(MANY)])
    with pytest.raises(InvalidInput, match="300,000 columns, more than"):
        tables.read(make_folders(tmp_path), table_pb2.DataRef(table=table))


def test_line_27_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas and pyarrow never see a name that they could fetch, follow or guess a compression from."""
    folders = make_folders(tmp_path)
    (folders.data[0] / "a.csv").write_bytes(b"a\n1\n")
    (folders.data[0] / "a.parquet").write_bytes(parquet(repeated_text().slice(0, 2)))
    reached: list[str] = []
    looking = [True]

    def look(event: str, arguments: tuple[object, ...]) -> None:
        if looking[0] and event.startswith(("socket.", "urllib.", "ftplib.", "http.")):
            reached.append(event)

    sys.addaudithook(look)
    asked: list[object] = []
    real = pd.read_csv

    def read_csv(source: object, **options: object) -> object:
        asked.append(source)
        return real(source, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(pd, "read_csv", read_csv)
    for path in ("a.csv", "a.parquet"):
        tables.read(folders, table_pb2.DataRef(path=path))
    for path in (
        "http://127.0.0.1:9/a.csv",
        "https://127.0.0.1:9/a.parquet",
        "s3://bucket/a.parquet",
        "ftp://x/a.csv.gz",
    ):
        with pytest.raises(InvalidInput, match="URL"):
            tables.read(folders, table_pb2.DataRef(path=path))
    looking[0] = False
    assert not reached
    assert [type(source).__name__ for source in asked] == ["BufferedReader"]
