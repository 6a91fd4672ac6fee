"""`make bench`: measure Towpath, its peers and the toy in alternation, and say how the targets stand."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import chart, tables
from bench.figures import Scale
from bench.peers.peers import SPECS
from bench.programs import ROOT
from bench.report import Report
from bench.rows import PARTS, SCALING, Measured
from bench.runs import Run, go, rounds
from bench.scaling import page as scaling
from bench.services import services
from bench.setup import set_up, version_of

CHART = ROOT / "docs" / "bench.svg"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- drawn by python -m bench --draw -->", "<!-- end of what is drawn -->"
SCALING_RUN = "scaling"
#: Peers on the same PostgreSQL.
BESIDE_SCALING = ("pgqueuer", "procrastinate")
REPEATS, QUICK_REPEATS = 5, 3
FULL, QUICK = Scale(), Scale(quick=True, seconds=1.0)
#: Where there is no terminal to fit into.
PAGE_WIDTH = 160


def main() -> None:
    """Measure, or draw what was measured."""
    arguments = _arguments()
    if arguments.draw:
        draw(read(arguments.draw))
        return
    console = Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)
    if arguments.resume:
        run = Run.newest()
    else:
        few = arguments.quick or SCALING_RUN in arguments.only
        repeats = arguments.repeats or (QUICK_REPEATS if few else REPEATS)
        run = Run.begin(quick=arguments.quick, repeats=repeats)
    quick = run.about["quick"]
    try:
        measure(run, chosen(quick=quick, only=arguments.only), QUICK if quick else FULL, console)
    except KeyboardInterrupt:
        console.print("Stopped. `python -m bench --resume` goes on where it was.")
    report = report_of(run)
    (scaling.show if scaling.is_one(report) else tables.show)(report, console)
    console.print(f"Kept in {run.file.relative_to(ROOT)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")


def report_of(run: Run) -> Report:
    """What a run says so far."""
    return Report(run.about, tuple(run.rows([*PARTS, *SCALING, *SPECS])), run.left_out())


def read(file: Path) -> Report:
    """A report that was written as JSON, or that of a run's own lines."""
    return report_of(Run.load(file)) if file.suffix == ".jsonl" else Report.read(file)


def chosen(*, quick: bool, only: Sequence[str]) -> list[Measured]:
    """What a run measures, in the order of a round: a part of Towpath or the toy, then some peers, and so on."""
    named = {spec.name: spec for spec in SPECS}
    if SCALING_RUN in only:
        first, *rest = SCALING
        turns: list[Measured] = [first, *(named[name] for name in BESIDE_SCALING), *rest]
        return [part for part in turns if not quick or part.quick or part.name in BESIDE_SCALING]
    parts: list[Measured] = [*PARTS, *(part for part in SCALING if part.name in only)]
    peers: list[Measured] = [*SPECS]
    mixed: list[Measured] = []
    share = -(-len(peers) // len(parts))
    for place, part in enumerate(parts):
        mixed += [part, *peers[place * share : (place + 1) * share]]
    wanted = [part for part in mixed if part.quick or not quick]
    return [part for part in wanted if not only or any(fnmatch.fnmatchcase(part.name, pattern) for pattern in only)]


def measure(run: Run, parts: Sequence[Measured], scale: Scale, console: Console) -> None:
    """Set up what is needed, and go through all rounds that are still to be measured."""
    specs = [spec for spec in SPECS if spec in parts]
    left_out = set_up(parts, console)
    with services(sorted({one.service for one in parts if one.service and one.name not in left_out})) as up:
        left_out |= {one.name: up.missing[one.service] for one in parts if one.service in up.missing}
        run.set_up({spec.name: version_of(spec) for spec in specs if spec.name not in left_out}, left_out)
        able = [part for part in parts if part.name not in left_out]
        todo = [one for one in rounds(able, run.about["repeats"]) if (one[0], one[1].name) not in run.done]
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=len(todo))
            for place, (number, name) in enumerate(go(run, todo, scale, up.environment)):
                progress.update(task, description=f"round {number + 1}, {name}", completed=place)


def draw(report: Report) -> None:
    """Write the chart and the tables into the page, or the table of a run past one machine into its own."""
    if scaling.is_one(report):
        _redraw(scaling.PAGE, scaling.markdown(report), scaling.BEGIN, scaling.END)
        return
    CHART.write_text(chart.draw(report), encoding="utf-8")
    _redraw(PAGE, tables.markdown(report), BEGIN, END)


def drawn_into(page: str, lines: Sequence[str], begin: str = BEGIN, end: str = END) -> str:
    """The page with these lines between its markers. ValueError when it has none."""
    before, begins, rest = page.partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise ValueError(f"The page needs the lines {begin} and {end}.")
    return "\n".join([before + begin, "", *lines, "", end]) + after


def _redraw(place: Path, lines: Sequence[str], begin: str, end: str) -> None:
    page = place.read_text(encoding="utf-8") if place.exists() else f"# {place.stem.title()}\n\n{begin}\n{end}\n"
    place.write_text(drawn_into(page, lines, begin, end), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the essentials, in 3 minutes once it is set up")
    parser.add_argument("--repeats", type=int, help=f"rounds; default {REPEATS}, with --quick {QUICK_REPEATS}")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="only this part or peer, or pattern; scaling: that run",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the newest run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="measure nothing: draw a report into docs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
