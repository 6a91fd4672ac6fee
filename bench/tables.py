"""A report as tables: for the terminal, and as markdown for the page."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from bench.figures import Row
from bench.peers.peers import SPECS
from bench.report import Report, summary
from bench.targets import Outcome, number

ROWS = ("what", "median", "least .. most", "unit", "runs", "to the best peer", "to the toy", "others")
TARGETS = ("what", "target", "measured", "")
COLOURS = {Outcome.MET: "green", Outcome.MISSED: "red", Outcome.UNMEASURED: "dim"}
PEERS = (
    "Peers as they were run, with redis on an append-only file that is fsynced each second and PostgreSQL as it comes, "
    "every commit fsynced: "
)
OTHERS = "others: cores that other programs used meanwhile; where it is not 0.0 the row says less"


def row_cells(report: Report, row: Row) -> tuple[str, ...]:
    """A row of figures in words."""
    peer, toy = report.beside(row)
    return (
        row.measure.what,
        number(row.median),
        f"{number(row.least)} .. {number(row.most)}",
        row.measure.unit,
        str(row.runs),
        f"{number(peer[1])}x {peer[0].key.split('.')[1]}" if peer else "",
        f"{number(toy)}x" if toy else "",
        f"{row.strangers:.1f}",
    )


def show(report: Report, console: Console) -> None:
    """Print both tables, and what was left out."""
    table = Table(title="Towpath, its peers and a toy of its design", caption=f"{report.heading()}\n{OTHERS}")
    for place, heading in enumerate(ROWS):
        table.add_column(heading, justify="left" if place in (0, 3) else "right")
    for row in report.rows:
        ours = not row.key.startswith(("peer.", "toy."))
        table.add_row(*row_cells(report, row), style="bold" if ours else "")
    console.print(table)

    verdicts = report.verdicts()
    table = Table(title="Targets", caption=summary(verdicts))
    for heading in TARGETS:
        table.add_column(heading, overflow="fold")
    for target, verdict in verdicts:
        colour = COLOURS[verdict.outcome]
        table.add_row(target.what, target.text, verdict.measured, f"[{colour}]{verdict.outcome.value}[/]")
    console.print(table)
    for name, reason in report.left_out.items():
        console.print(f"Left out: {name}: {reason}", markup=False)


def markdown(report: Report) -> list[str]:
    """The same as lines of markdown."""
    verdicts = report.verdicts()
    lines = [f"{report.heading()}.", "", *_table(TARGETS, "llll", [])]
    lines += [
        _line((target.what, target.text, verdict.measured, f"**{verdict.outcome.value}**"))
        for target, verdict in verdicts
    ]
    lines += ["", f"{summary(verdicts)}.", "", *_table(ROWS, "lrrlrrrr", [])]
    lines += [_line(row_cells(report, row)) for row in report.rows]
    lines += ["", f"{OTHERS[0].upper()}{OTHERS[1:]}.", "", f"{PEERS}{', '.join(_peers(report))}."]
    if report.left_out:
        lines += ["", "Left out:", ""]
        lines += [f"- {name}: {reason}" for name, reason in report.left_out.items()]
    return lines


def _peers(report: Report) -> Iterator[str]:
    versions = report.about.get("versions", {})
    for spec in SPECS:
        if spec.name in versions:
            yield f"{spec.name} {versions[spec.name]} ({spec.how})"


def _table(headings: tuple[str, ...], sides: str, rows: list[tuple[str, ...]]) -> list[str]:
    marks = tuple("--:" if side == "r" else "---" for side in sides)
    return [_line(headings), "|" + "|".join(marks) + "|", *map(_line, rows)]


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
