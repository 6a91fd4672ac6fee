"""How commands print: one JSON document for machines, tables for people, plain columns in a pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from rich.console import Console

    from towpath.records import Record


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at this stream."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def on_terminal() -> bool:
    """Whether a person reads standard output."""
    return is_terminal(sys.stdout)


def console(*, stderr: bool = False) -> Console:
    """A rich console: coloured on a terminal unless NO_COLOR is set."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


def document(content: Record | Mapping[str, Any], *, line: bool = False) -> None:
    """Prints one JSON document, on one line where it is one of a stream."""
    found = dict(content) if isinstance(content, Mapping) else content.to_dict()
    print(json.dumps(found, indent=None if line else 2, separators=(",", ":") if line else None), flush=line)


def documents(name: str, records: Iterable[Record]) -> None:
    """Prints a list of records as one JSON document `{name: [...]}`."""
    document({name: [record.to_dict() for record in records]})


def note(text: str) -> None:
    """A line for people, on standard error, so that standard output stays what was asked for."""
    print(printable(text), file=sys.stderr, flush=True)


def line(text: str = "") -> None:
    """A line on standard output."""
    print(harmless(text), flush=True)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "", right: Sequence[str] = ()
) -> None:
    """Prints a table; `right` names the columns of numbers. No rows: says `empty` instead.

    A row stays one line however wide it is: an id that is cut in two cannot be copied.
    """
    if not rows and empty:
        note(empty)
        return
    heads = [name.upper() for name in columns]
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(heads, *cells, strict=True)]
    numeric = [name in right for name in columns]
    out = console() if on_terminal() else None
    for row in (heads, *cells):
        padded = [_padded(*one) for one in zip(row, widths, numeric, strict=True)]
        if out is None:
            print("  ".join(padded).rstrip())
        else:
            styles = ["bold"] * len(row) if row is heads else [STYLES.get(cell, "") for cell in row]
            _print_styled(out, zip(padded, styles, strict=True))


def _print_styled(out: Console, parts: Iterable[tuple[str, str]]) -> None:
    from rich.text import Text

    found = Text("  ").join(Text(text, style=style) for text, style in parts)
    found.rstrip()
    out.print(found, soft_wrap=True)


def _width(text: str) -> int:
    """Columns on a terminal: Chinese and its kin take two each."""
    return len(text) if text.isascii() else sum(1 + (east_asian_width(char) in "WF") for char in text)


def _padded(text: str, width: int, numeric: bool) -> str:
    gap = " " * (width - _width(text))
    return gap + text if numeric else text + gap


def fields(found: Sequence[tuple[str, object]]) -> None:
    """Prints names and values, one a line, leaving out what is empty."""
    shown = [(name, printable(str(value))) for name, value in found if value not in ("", None)]
    width = max((len(name) for name, _ in shown), default=0)
    out = console() if on_terminal() else None
    for name, value in shown:
        if out is None:
            print(f"{name.ljust(width)}  {value}")
        else:
            _print_styled(out, ((name.ljust(width), "bold"), (value, STYLES.get(value, ""))))


def printable(text: str) -> str:
    """The text with every invisible character written out, so that a name cannot act on the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def harmless(text: str) -> str:
    """Lines of text without anything that could act on the terminal; a carriage return begins a new line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ").split("\n")
    return "\n".join(map(printable, lines))


STYLES: Mapping[str, str] = {
    "SUCCEEDED": "green",
    "READY": "green",
    "yes": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "no": "red",
    "CANCELLED": "yellow",
    "CANCELLING": "yellow",
    "PAUSED": "yellow",
    "DRAINING": "yellow",
    "RUNNING": "cyan",
    "LEASED": "cyan",
    "OFFLINE": "dim",
}
