"""How large a table may be that a job reads: what is larger is refused before its memory is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from towpath_worker.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Caps:
    """The largest table: whichever is reached first."""

    #: Bytes of text once inflated, or of Parquet and Arrow once unpacked.
    max_bytes: int = 8 << 30
    max_rows: int = 200_000_000
    max_columns: int = 20_000
    #: Rows times columns. A cell takes 8 bytes or more in memory, however few in the file.
    max_cells: int = 1_000_000_000

    def rows(self, columns: int) -> int:
        """How many rows a table with so many columns may have."""
        return min(self.max_rows, self.max_cells // max(1, columns))

    def check(self, what: str, *, rows: int = 0, columns: int = 0, cells: int = 0, size: int = 0) -> None:
        """Raises InvalidInput where one of these is larger than allowed; `what` is the table, for people."""
        cells = max(cells, rows * columns)
        for count, most, unit in (
            (columns, self.max_columns, "columns"),
            (rows, self.max_rows, "rows"),
            (cells, self.max_cells, "cells"),
            (size, self.max_bytes, "bytes"),
        ):
            if count > most:
                raise InvalidInput(
                    f"{what} has {count:,} {unit}, more than {most:,}: give a smaller one, "
                    "or let the worker's owner raise the cap"
                )

    def check_names(self, what: str, names: Iterable[str]) -> None:
        """Raises InvalidInput where there are no columns, too many, or two of one name."""
        names = list(names)
        if not names:
            raise InvalidInput(f"{what} has no columns")
        self.check(what, columns=len(names))
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            shown = ", ".join(map(repr, twice[:10]))
            raise InvalidInput(f"each column needs a name of its own; more than once: {shown}")
