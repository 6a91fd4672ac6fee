"""`python -m support.fuzzing.readers SEED COUNT FOLDER`: broken tables and models for the worker's readers.

Each must be read, or refused with InvalidInput. Before each case its number goes to standard output, so that whoever
started this process knows which one killed it; what a case broke goes there too.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import sys
import traceback
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from support.fuzzing.wire import mutated
from towpath.v1 import table_pb2
from towpath_worker import models, tables
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders

FRAME = pd.DataFrame(
    {
        "number": [1.5, None, -3.0, 1e300] * 8,
        "whole": [1, 2, 3, 2**60] * 8,
        "text": ["a", "é", None, '"x,y"\n'] * 8,
        "when": pd.to_datetime(["2020-01-01", "NaT", "1970-01-01", "2262-01-01"] * 8),
        "flag": [True, False, True, True] * 8,
    }
)
# What JSON can hold in place of what is expected.
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**80,
    1.5,
    "",
    "x",
    "../../etc/passwd",
    "/etc/passwd",
    "a\0b",
    [],
    [1],
    {},
    {"x": None},
    "é" * 300,
)
DEEP = 100_000


def _csv() -> bytes:
    return FRAME.to_csv(index=False).encode()


def _parquet() -> bytes:
    out = io.BytesIO()
    FRAME.to_parquet(out, index=False)
    return out.getvalue()


def _arrow() -> bytes:
    return tables.to_inline(FRAME, arrow=True).arrow


def _plain_arrow() -> bytes:
    content = pa.Table.from_pandas(FRAME, preserve_index=False)
    out = io.BytesIO()
    with pa.ipc.new_stream(out, content.schema) as writer:
        writer.write_table(content)
    return out.getvalue()


def _zip(name: str = "table.csv") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, _csv())
    return out.getvalue()


SAMPLES: Mapping[str, bytes] = {
    ".csv": _csv(),
    ".csv.gz": gzip.compress(_csv()),
    ".csv.zip": _zip(),
    ".parquet": _parquet(),
    "arrow": _arrow(),
    "plain arrow": _plain_arrow(),
    "rows": tables.to_inline(FRAME, arrow=False).SerializeToString(),
}
MODEL = {"model.ubj": b"trees", "encoder.json": b"{}"}
MANIFEST = {
    "format": models.FORMAT,
    "model_id": "mdl_0d5t8x2k4m9qc",
    "name": "flights",
    "version": 1,
    "tenant": "default",
    "user": "admin",
    "model_type": "xgboost",
    "task_type": "TASK_TYPE_REGRESSION",
    "estimator": {},
    "labels": None,
    "files": {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in MODEL.items()
    },
}


def _read_file(folders: Folders, ending: str, raw: bytes, rng: random.Random) -> None:
    name = f"table{ending}"
    (folders.data[0] / name).write_bytes(raw)
    tables.read(folders, table_pb2.DataRef(path=name), text_columns=rng.choice(((), ("text",), ("nothing", "number"))))


def _read_inline(folders: Folders, kind: str, raw: bytes, rng: random.Random) -> None:
    if "arrow" in kind:
        tables.read(folders, table_pb2.DataRef(table=table_pb2.InlineTable(arrow=raw)))
        return
    try:
        table = table_pb2.InlineTable.FromString(raw)
    except Exception:  # noqa: BLE001 - it never came as far as the worker
        return
    tables.read(folders, table_pb2.DataRef(table=table))


def _read_model(folders: Folders, rng: random.Random) -> None:
    folder = folders.models / "default" / "admin" / "flights" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = json.loads(json.dumps(MANIFEST))
    for _ in range(rng.randrange(3)):
        place = rng.choice((manifest, manifest, manifest["files"]))
        if isinstance(place, dict) and place:
            place[rng.choice((*place, "../x", "..", "", "a\0b", "x" * 300))] = rng.choice(ODD)
    raw = json.dumps(manifest).encode()
    if rng.random() < 0.3:
        raw = rng.choice((mutated(raw, rng), b"[" * DEEP, b'{"a":' * DEEP, b"\xff", b"", b"NaN", b'{"format": 1}'))
    (folder / models.MANIFEST).write_bytes(raw)
    for name, content in MODEL.items():
        (folder / name).write_bytes(mutated(content, rng) if rng.random() < 0.3 else content)
    models.scan(folders)
    models.load(folders, rng.choice(("flights", "flights@1", "mdl_0d5t8x2k4m9qc", "flights@../1")), "default", "admin")


def case(folders: Folders, rng: random.Random) -> str:
    """One of them; what kind it was."""
    kind = rng.choice((*SAMPLES, ".parquet", "arrow", "model"))
    if kind == "model":
        _read_model(folders, rng)
        return kind
    raw = SAMPLES[kind]
    # Some are packed well, and rotten inside.
    inside = kind == ".csv.gz" and rng.random() < 0.5
    raw = gzip.compress(mutated(_csv(), rng)) if inside else mutated(raw, rng)
    read: Callable[[Folders, str, bytes, random.Random], None] = _read_file if kind.startswith(".") else _read_inline
    read(folders, kind, raw, rng)
    return kind


def main() -> None:
    """All cases."""
    seed, count, root = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    folders = Folders(data=(root / "data",), models=root / "models", results=root / "results")
    for folder in (*folders.data, folders.models, folders.results):
        folder.mkdir(parents=True, exist_ok=True)
    read = 0
    for number in range(seed, seed + count):
        os.write(1, b"case %d\n" % number)
        try:
            case(folders, random.Random(number))
            read += 1
        except InvalidInput as error:
            words = str(error)
            if len(words) > 2_000 or (str(root) in words and "models" not in words):
                os.write(1, f"broken {number}: {words[:300]!r}\n".encode())
        except BaseException:  # noqa: BLE001 - it is what is looked for
            os.write(1, f"broken {number}: {traceback.format_exc()[-1500:]!r}\n".encode())
    os.write(1, b"read %d\n" % read)


if __name__ == "__main__":
    main()
