"""What the bench says of its figures; nothing is measured here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from bench import chart, runs, tables
from bench.__main__ import BEGIN, END, chosen, draw, drawn_into, report_of
from bench.figures import Figure, Measure, Row, best, matching, rows_of
from bench.meter import Reading
from bench.peers.peers import SPECS
from bench.report import BESIDE, Report
from bench.rows import PARTS, SCALING, Measured
from bench.runs import Run, rounds
from bench.scaling import page as scaling
from bench.services import guarded
from bench.targets import TARGETS, Outcome, Target, number

ABOUT = {"machine": "two cores", "began": "today", "quick": False, "repeats": 3}
EVERYTHING: tuple[Measured, ...] = (*PARTS, *SPECS)
KEYS = [measure.key for part in (*EVERYTHING, *SCALING) for measure in part.measures()]


def row(key: str, *values: float, unit: str = "jobs/s") -> Row:
    return Row(Measure(key, f"words of {key}", unit), values)


def report(*rows: Row) -> Report:
    return Report(ABOUT, rows, {"ray": "it does not install"})


SOME = report(
    row("batched.inline", 22_000, 20_000, 21_000),
    row("toy.batched", 30_000, 30_000, 30_000),
    row("peer.huey.single", 1_000, 1_100, 900),
    row("peer.pgqueuer.batched", 5_000, 4_000, 6_000),
    row("idle.inline.p50", 4.0, unit="ms"),
    row("peer.huey.p50", 5.0, unit="ms"),
    row("peer.rq.p50", 3.0, unit="ms"),
)


def outcome(target: Target, *rows: Row) -> Outcome:
    return target.judge({row.key: row for row in rows}).outcome


def test_a_row_is_the_middle_of_its_values_with_the_least_and_the_most() -> None:
    figures = [Figure("a", value, number, strangers=value / 10) for number, value in enumerate((3.0, 1.0, 2.0))]
    (made,) = rows_of([Measure("a", "", ""), Measure("b", "", "")], figures)
    assert (made.median, made.least, made.most, made.runs, made.strangers) == (2.0, 1.0, 3.0, 3, 0.2)


def test_the_best_rate_is_the_highest_and_the_best_time_the_shortest() -> None:
    rates, times = matching(SOME.by_key, ["peer.*.single", "peer.*.batched"]), matching(SOME.by_key, ["peer.*.p50"])
    assert [one.key for one in (best(rates), best(times)) if one] == ["peer.pgqueuer.batched", "peer.rq.p50"]
    assert best([]) is None


def test_a_target_is_met_at_its_limit_and_missed_beyond_it() -> None:
    twice = Target("a", "", "", at_least=2, against=("b", "c"))
    assert outcome(twice, row("a", 20), row("b", 9), row("c", 10)) is Outcome.MET
    assert outcome(twice, row("a", 19.9), row("b", 9), row("c", 10)) is Outcome.MISSED
    under = Target("a", "", "", at_most=6)
    assert [outcome(under, row("a", value)) for value in (6, 6.1)] == [Outcome.MET, Outcome.MISSED]


def test_a_target_that_lacks_a_row_is_not_measured() -> None:
    ratio = Target("a", "", "", at_least=2, against=("b",))
    assert outcome(ratio, row("a", 5)) is Outcome.UNMEASURED
    assert outcome(ratio, row("b", 5)) is Outcome.UNMEASURED
    curve = Target("a", "", "", curve=("a", "b"))
    assert outcome(curve, row("a", 5)) is Outcome.UNMEASURED


def test_a_curve_has_a_cliff_where_one_step_loses_too_much() -> None:
    curve = Target("a", "", "", curve=("a", "b", "c"), drop=2)
    assert outcome(curve, row("a", 100), row("b", 50), row("c", 200)) is Outcome.MET
    assert outcome(curve, row("a", 100), row("b", 90), row("c", 40)) is Outcome.MISSED


def test_every_target_is_about_something_that_is_measured() -> None:
    for target in TARGETS:
        for key in (target.key, *target.against) if not target.curve else target.curve:
            assert key in KEYS
    for ours, (peers, toy) in BESIDE.items():
        assert {ours, toy or ours} <= set(KEYS)
        assert matching({key: row(key, 1) for key in KEYS}, peers)


@pytest.mark.parametrize(
    ("value", "words"), [(12_345.6, "12,346"), (999.7, "1,000"), (42.51, "42.5"), (0.0712, "0.0712"), (3.0, "3")]
)
def test_figures_can_be_read(value: float, words: str) -> None:
    assert number(value) == words


def test_no_two_things_share_a_key() -> None:
    assert len(KEYS) == len(set(KEYS))


@pytest.mark.parametrize("made", [SOME, report()], ids=["some figures", "no figures"])
def test_every_target_has_a_line_whatever_was_measured(made: Report) -> None:
    lines = "\n".join(tables.markdown(made))
    for target in TARGETS:
        assert f"| {target.what} | {target.text} | " in lines
    assert len(made.to_json()["targets"]) == len(TARGETS)
    assert "ray: it does not install" in lines


def test_ratios_stand_beside_the_figures() -> None:
    (line,) = (line for line in tables.markdown(SOME) if line.startswith("| words of batched.inline"))
    assert "| 21,000 | 20,000 .. 22,000 | jobs/s | 3 | 4.2x pgqueuer | 0.7x |" in line


def test_a_report_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(SOME.to_json()), encoding="utf-8")
    assert Report.read(file) == SOME


def test_the_chart_is_a_picture_with_every_name_and_figure() -> None:
    picture = ElementTree.fromstring(chart.draw(SOME))
    words = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Towpath, words of batched.inline", "21,000 jobs/s", "words of peer.rq.p50", "3 ms"} <= words
    ElementTree.fromstring(chart.draw(report()))


def test_what_is_drawn_replaces_what_was_drawn() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    drawn = drawn_into(page, ["new"])
    assert drawn == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert drawn_into(drawn, ["new"]) == drawn
    with pytest.raises(ValueError, match="needs the lines"):
        drawn_into("no markers", [])


def test_a_run_that_was_cut_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "RESULTS", tmp_path)
    run = Run.begin(quick=True, repeats=3)
    run.set_up({"huey": "3.0"}, {"celery": "it does not install"})
    run.add(0, "huey", {"peer.huey.single": 1000.0}, seconds=5.0, strangers=0.1)
    run.fail(1, "huey", "it took too long")
    again = Run.newest()
    huey: Measured = SPECS[0]
    todo = [number for number, part in rounds([huey], 3) if (number, part.name) not in again.done]
    assert todo == [2]
    assert "huey 3.0 (redis, 4 threads)" in "\n".join(tables.markdown(report_of(again)))
    assert report_of(again) == report_of(run)
    assert report_of(again).left_out == {
        "celery": "it does not install",
        "huey": "1 of 3 rounds failed: it took too long",
    }


def test_a_run_goes_through_everything_and_a_quick_one_through_the_essentials() -> None:
    assert {part.name for part in chosen(quick=False, only=[])} == {part.name for part in EVERYTHING}
    quick = {part.name for part in chosen(quick=True, only=[])}
    assert {"product.inline", "product.children", "toy", "huey", "dramatiq", "celery", "pgqueuer"} <= quick


def test_a_run_past_one_machine_takes_turns_with_peers_on_the_same_server() -> None:
    names = [part.name for part in chosen(quick=True, only=["scaling"])]
    assert names == ["scaling.sqlite", "pgqueuer", "procrastinate", "scaling.one", "scaling.three"]
    everything = {part.name for part in chosen(quick=False, only=["scaling"])}
    assert everything == {*names, "scaling.depth", "scaling.retention"}
    assert [part.name for part in chosen(quick=False, only=["scaling.depth"])] == ["scaling.depth"]
    assert not {part.name for part in SCALING} & {part.name for part in chosen(quick=False, only=[])}


def test_a_run_past_one_machine_is_drawn_into_its_own_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, other = tmp_path / "scaling.md", tmp_path / "performance.md"
    page.write_text(f"before\n{scaling.BEGIN}\nold\n{scaling.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(scaling, "PAGE", page)
    monkeypatch.setattr("bench.__main__.PAGE", other)
    made = report(
        row("scaling.sqlite.batched", 5_000, 4_000, 6_000),
        row("scaling.three.batched", 3_000, 3_000, 3_000),
        row("peer.pgqueuer.batched", 1_000),
        row("scaling.depth.big.claim.p50", 2.5, unit="ms"),
    )
    draw(made)
    lines = page.read_text(encoding="utf-8").split("\n")
    assert (lines[0], lines[-2], "old" in lines) == ("before", "after", False)
    assert (
        "| inline, batches of 100 in | jobs/s | 5,000 (4,000 .. 6,000) |  | 3,000 (3,000 .. 3,000) | 1,000 |  |"
        in lines
    )
    assert "| words of scaling.depth.big.claim.p50 | 2.5 | 2.5 .. 2.5 | ms |" in lines
    assert not other.exists()


def test_a_server_is_read_with_all_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_POSTGRES_PID", str(os.getpid()))
    before = Reading.now(10)
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    took = Reading.now(30).since(before, "batched", jobs=100, seconds=4.0)
    assert took["batched.commits"] == 5.0
    assert took["batched.postgres"] > 0


def test_nothing_is_left_of_a_program_when_whoever_started_it_lets_go(tmp_path: Path) -> None:
    # A descendant that has left its group, as database servers do.
    words = "import subprocess, sys; p = subprocess.Popen(['sleep', '600'], start_new_session=True)"
    words += "; print(p.pid, flush=True); p.wait()"
    with guarded([sys.executable, "-c", words], stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        assert process.stdout is not None
        with process.stdout:
            descendant = int(process.stdout.readline())
        assert psutil.pid_exists(descendant)
    assert not psutil.pid_exists(descendant)
