"""A run past one machine as a table: what was measured down, where it was measured across."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from bench.figures import Row
from bench.peers.peers import SPECS
from bench.programs import ROOT
from bench.report import Report
from bench.scaling.load import WORDS
from bench.targets import number

PAGE = ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- bench:scaling -->", "<!-- end of bench:scaling -->"
PREFIX = "scaling."
#: Headings, and where their figures' keys begin.
COLUMNS: Mapping[str, str] = {
    "SQLite": "scaling.sqlite",
    "PostgreSQL, 1 scheduler": "scaling.one",
    "PostgreSQL, 3 schedulers": "scaling.three",
    "pgqueuer": "peer.pgqueuer",
    "procrastinate": "peer.procrastinate",
}
REMARKS = """\
Medians with least .. most. Every commit is fsynced (`fsync` and `synchronous_commit` are on). Towpath has 3 submitters
and 3 workers at each place, spread over its schedulers. Idle latencies go through as many schedulers as there are:
submitted to one, run by a worker of another. Peers have one submitter and one worker, and one by one means that each
submit waits for the one before; Towpath's clients put submits that are under way together into batches.

All of it shares this machine: schedulers, workers, submitters, PostgreSQL. So more schedulers cannot be quicker here;
what they cost is in the rows of CPU time. On cores of their own they add up until PostgreSQL's CPU a job, or its disk,
is what limits."""
OTHERS = "Cores that other programs used meanwhile: "


def is_one(report: Report) -> bool:
    """Whether it is a run past one machine."""
    return any(row.key.startswith(PREFIX) for row in report.rows)


def rows(report: Report) -> Iterator[tuple[str, ...]]:
    """What, its unit, and a cell for each column."""
    by_key = report.by_key
    for key, what, unit in WORDS:
        found = [by_key.get(f"{prefix}.{key}") for prefix in COLUMNS.values()]
        if any(found):
            yield (what, unit, *(_cell(row) if row else "" for row in found))


def alone(report: Report) -> list[Row]:
    """The rows that are about one place only."""
    places = tuple(f"{prefix}." for prefix in COLUMNS.values())
    return [row for row in report.rows if row.key.startswith(PREFIX) and not row.key.startswith(places)]


def show(report: Report, console: Console) -> None:
    """Print it."""
    table = Table(title="Past one machine", caption=f"{report.heading()}\n{OTHERS}{_others(report)}")
    for place, heading in enumerate(("what", "unit", *COLUMNS)):
        table.add_column(heading, justify="left" if place < 2 else "right")
    for cells in rows(report):
        table.add_row(*cells)
    console.print(table)
    table = Table("what", "median", "least .. most", "unit")
    for row in alone(report):
        table.add_row(row.measure.what, number(row.median), _span(row), row.measure.unit)
    if table.row_count:
        console.print(table)
    for name, reason in report.left_out.items():
        console.print(f"Left out: {name}: {reason}", markup=False)


def markdown(report: Report) -> list[str]:
    """The same as lines of markdown."""
    lines = [f"{report.heading()}. {OTHERS}{_others(report)}.", ""]
    lines += [_line(("what", "unit", *COLUMNS)), "|---|---|" + "--:|" * len(COLUMNS), *map(_line, rows(report))]
    lines += ["", *REMARKS.splitlines()]
    lines += ["", f"Peers: {', '.join(_peers(report))}."]
    if found := alone(report):
        lines += ["", _line(("what", "median", "least .. most", "unit")), "|---|--:|--:|---|"]
        lines += [_line((row.measure.what, number(row.median), _span(row), row.measure.unit)) for row in found]
    if report.left_out:
        lines += ["", "Left out:", "", *(f"- {name}: {reason}" for name, reason in report.left_out.items())]
    return lines


def _cell(row: Row) -> str:
    return number(row.median) if row.runs == 1 else f"{number(row.median)} ({_span(row)})"


def _span(row: Row) -> str:
    return f"{number(row.least)} .. {number(row.most)}"


def _others(report: Report) -> str:
    return f"{max((row.strangers for row in report.rows), default=0.0):.1f} at most"


def _peers(report: Report) -> Iterator[str]:
    versions = report.about.get("versions", {})
    for spec in SPECS:
        if spec.name in versions:
            yield f"{spec.name} {versions[spec.name]} ({spec.how})"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
