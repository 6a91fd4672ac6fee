"""Small tables of this machine, sent inside the job; and predictions written to a file here."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

# A message takes 4 MiB, and a compressed table may be a few times that as text.
MAX_FILE_BYTES = 64 * 1024 * 1024
# What pandas reads as missing, in its most common spellings.
MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>"})
TRUTHS: Mapping[str, bool] = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}


def source(given: str, *, upload: bool) -> Any:
    """What DATA stands for: a path on the worker, or the table of a local file (`@FILE`, or `upload`)."""
    if not upload and not given.startswith("@"):
        return given
    return read(Path(given.removeprefix("@")).expanduser())


def read(path: Path) -> Any:
    """The table of a local CSV or Parquet file: a list of dicts or a pyarrow.Table."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise typer.BadParameter(f"{path.name!r} is neither .csv nor .parquet.", param_hint="DATA")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise typer.BadParameter(
            f"{path.name} has {size / 1e6:.0f} MB, too much to send along. "
            "Copy it into a data folder of the worker and give its path there.",
            param_hint="DATA",
        )
    return _read_parquet(path) if kind == ".parquet" else _read_csv(path)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows with the same columns to a new CSV file; a file that is there is never overwritten."""
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if rows:
            writer.writerow(list(rows[0]))
            writer.writerows(["" if value is None else value for value in row.values()] for row in rows)


def _read_parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise typer.BadParameter(
            "sending a Parquet file needs pyarrow: pip install pyarrow. Or send it as CSV.", param_hint="DATA"
        ) from None
    return parquet.read_table(path)


def _read_csv(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path.name} is no CSV file in UTF-8: {error}.", param_hint="DATA") from None
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise typer.BadParameter(f"{path.name} holds no rows below its header.", param_hint="DATA")
    names, rows = lines[0], lines[1:]
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"{path.name} names a column twice.", param_hint="DATA")
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise typer.BadParameter(
                f"{path.name}: row {number} has {len(row)} values, the header {len(names)}.", param_hint="DATA"
            )
    columns = [_typed([row[place] for row in rows]) for place in range(len(names))]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _typed(texts: list[str]) -> list[Any]:
    """A column as numbers or truths where all of it reads so, else as text; what is missing as None."""
    present = [text for text in texts if text not in MISSING]
    if present and all(text in TRUTHS for text in present):
        return [TRUTHS.get(text) for text in texts]
    try:
        return [None if text in MISSING else _number(text) for text in texts]
    except ValueError:
        return [None if text in MISSING else text for text in texts]


def _number(text: str) -> float:
    number = float(text)
    # `inf` and `1_000` are text to those who write tables.
    if "_" in text or number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return int(text) if text.lstrip("+-").isdigit() and abs(number) < 2**53 else number
