"""`python -m support.little_memory FOLDER`: reads each file of a folder as a job's table, in little memory.

Prints as JSON, by file: the kind of error, its text, and how many MiB more than before the process took at its peak.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401

from towpath.v1 import table_pb2
from towpath_worker import csv_files, parquet_files, tables  # noqa: F401
from towpath_worker.caps import Caps
from towpath_worker.paths import Folders

CAPS = Caps(max_bytes=16 << 20, max_columns=2_000, max_cells=2_500_000)
#: MiB of addresses beyond those in use: many times what a table under these caps takes.
LITTLE = 1_024


def reference(path: Path) -> table_pb2.DataRef:
    """The file, or its content in a message where its ending is .arrow."""
    if path.suffix == ".arrow":
        return table_pb2.DataRef(table=table_pb2.InlineTable(arrow=path.read_bytes()))
    return table_pb2.DataRef(path=path.name)


def in_use() -> int:
    """MiB of addresses."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize() >> 20


def peak() -> int:
    """MiB of memory at the peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main(folder: Path) -> None:
    """Reads all."""
    limit = in_use() + LITTLE << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    folders = Folders((folder,), folder / "models", folder / "results", caps=CAPS)
    said = {}
    for path in sorted(folder.iterdir()):
        before = peak()
        try:
            frame = tables.read(folders, reference(path))
            kind, text = "read", str(frame.shape)
        except BaseException as error:  # noqa: BLE001
            kind, text = type(error).__name__, str(error)
        said[path.name] = (kind, text[:500], peak() - before)
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
