"""Which seeded bug was noticed by what."""

from __future__ import annotations

import pytest

PROPERTY = "seeded bug"


def show(terminalreporter: pytest.TerminalReporter) -> None:
    """One table at the end of the run, where bugs were put into the product."""
    rows = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if not rows:
        return
    # Only now: whoever runs other tests need not import the product for it.
    from rich.console import Console
    from rich.table import Table

    from support.seeded_bugs import BUGS

    table = Table(title=f"{len(rows)} of {len(BUGS)} seeded bugs were noticed", title_justify="left")
    for column in ("bug", "caught by", "invariant", "after seeds"):
        table.add_column(column)
    for name, layer, what, after in rows:
        table.add_row(BUGS[name].description, layer, what.replace("_", " "), str(after))
    console = Console(width=140)
    terminalreporter.ensure_newline()
    console.print(table)
