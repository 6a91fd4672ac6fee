"""What people type and what they read: names, durations, small tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from towpath import enums
from towpath.cli import data, exit_codes, names, output, parsing, root, times
from towpath.errors import BY_CODE


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1 year", "1e3", "inf", "nan", "٣s", "1s2"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parsing.seconds(text, "--timeout")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("200ms", 0.2), ("1.5h", 5400), ("7d", 604800), ("10 m", 600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parsing.seconds(text, "--timeout") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0123, "12 ms"),
        (0.9999, "1.0 s"),
        (99.94, "99.9 s"),
        (99.96, "1 min 40 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_spans_for_people(seconds: float, text: str) -> None:
    assert times.span(seconds) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("0.1", 0.1),
        ("true", True),
        ("null", None),
        ('"8"', "8"),
        ("[1, 2]", [1, 2]),
        ("gbtree", "gbtree"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("", ""),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert parsing.value(text, "--param") == value


def test_names_are_those_of_the_contract() -> None:
    for ours, theirs in (
        (names.State, enums.JobState),
        (names.Priority, enums.Priority),
        (names.Task, enums.TaskType),
        (names.Role, enums.Role),
    ):
        # Tokens of role ENROLLMENT are made by `towpath workers invite`.
        assert set(ours.__members__) == set(theirs.__members__) - {"UNSPECIFIED", "ENROLLMENT"}
        assert all(theirs.parse(one.value).name == one.name for one in ours)


def test_every_error_of_the_scheduler_has_an_exit_code() -> None:
    assert set(BY_CODE) <= set(exit_codes.BY_STATUS)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "twice"),
        ("a,b\n1\n", "row 2"),
        ('a,b\n1,"2\n', "no CSV"),
        ("a\n\udcff\n", "UTF-8"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(typer.BadParameter, match=problem):
        data.read(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"\.csv"):
        data.read(tmp_path / "table.xlsx")


def test_a_column_is_numbers_only_where_all_of_it_is(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("\ufeffn,x,t,b\n1,1.5,1_000,true\n-2,,inf,NA\n\n3,1e3,7,False\n", encoding="utf-8")
    assert data.read(path) == [
        {"n": 1, "x": 1.5, "t": "1_000", "b": True},
        {"n": -2, "x": None, "t": "inf", "b": None},
        {"n": 3, "x": 1000.0, "t": "7", "b": False},
    ]


def test_predictions_never_overwrite_a_file(tmp_path: Path) -> None:
    path = tmp_path / "there.csv"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        data.write_csv(path, [{"prediction": 1}])
    assert path.read_text() == "mine"


def test_hoisting_keeps_the_order_and_stops_at_two_dashes() -> None:
    given = ["submit", "echo", "--json", "-p", "a=1", "--server", "h:1", "--tls-ca=x", "--", "--json", "--token"]
    assert root.hoist(given) == ["--json", "--server", "h:1", "--tls-ca=x", "submit", "echo", "-p", "a=1", *given[-3:]]


def test_nothing_printed_can_act_on_a_terminal() -> None:
    assert output.printable("a\x1b[2J\u202e\u200b\r\n\x9b") == r"a\x1b[2J\u202e\u200b\r\n\x9b"
    assert output.harmless("50%\r100%\r\nnaïve 日本\t.\n") == "50%\n100%\nnaïve 日本    .\n"
