"""One table at the end of the run: which seeded bug was noticed by what."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table

from support import seeded_bugs
from support.seeded_bugs import BUGS

PROPERTY = "seeded bug"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """What a test has noticed travels with its report, also from another process."""
    if call.when == "call":
        item.user_properties += [(PROPERTY, (one.name, one.layer, one.what, one.after)) for one in seeded_bugs.caught]
        seeded_bugs.caught.clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table."""
    rows = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if not rows:
        return
    table = Table(title=f"{len(rows)} of {len(BUGS)} seeded bugs were noticed", title_justify="left")
    for column in ("bug", "caught by", "invariant", "after seeds"):
        table.add_column(column)
    for name, layer, what, after in rows:
        table.add_row(BUGS[name].description, layer, what.replace("_", " "), str(after))
    console = Console(width=140)
    terminalreporter.ensure_newline()
    console.print(table)
