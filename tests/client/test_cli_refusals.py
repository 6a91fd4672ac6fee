"""Wrong input to the command line: the exit code, one line that says what to do, nothing sent, no traceback."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support import fake_cli_server as fake
from support.cli_runner import Run, runner
from towpath.cli.app import app
from towpath.cli.exit_codes import ExitCode

JOB = "job_0000000000001"
NO_JOB = "job_zzzzzzzzzzzzz"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[tuple[str, fake.Jobs]]:
    with fake.serving() as found:
        yield found


@pytest.fixture
def jobs(scheduler: tuple[str, fake.Jobs]) -> fake.Jobs:
    scheduler[1].jobs.clear()
    return scheduler[1]


@pytest.fixture
def run(scheduler: tuple[str, fake.Jobs], jobs: fake.Jobs, tmp_path: Path) -> Run:
    return runner(scheduler[0], tmp_path / "token")


def test_a_token_in_argv_is_refused_and_not_repeated(run: Run) -> None:
    for args in (["--token", "tok-oops", "whoami"], ["whoami", "--token=tok-oops"]):
        result = run(*args)
        assert result.exit_code == ExitCode.USAGE
        assert "--token-file" in result.stderr
        assert "tok-oops" not in result.output


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["jobs", "nonsense"],
        ["jobs", "get"],
        ["jobs", "list", "--state", "sleeping"],
        ["jobs", "list", "--limit", "0"],
        ["jobs", "list", "--label", "novalue"],
        ["train", "flights.csv"],
        ["train", "flights.csv", "--target", "late", "--hyper", "max_depth"],
        ["train", "flights.csv", "--target", "late", "--hyper", "max_depth=[1,"],
        ["train", "flights.csv", "--target", "late", "--timeout", "soon"],
        ["submit", "echo", "--param", "novalue"],
        ["submit", "echo", "--param", "a=1", "--param", "a=2"],
        ["submit", "echo", "--params-json", "[1]"],
        ["submit", "echo", "--params-json", "{"],
        ["submit", "echo", "--params-json", '{"a": NaN}'],
        ["submit", "echo", "--priority", "urgent"],
        ["submit", "echo", "--dedupe-key", "k", "--on-conflict", "keep"],
        ["submit", "echo", "--on-conflict", "replace"],
        ["train", "flights.csv", "--target", "late", "--dedupe-key", "", "--on-conflict", "replace"],
        ["predict", "iris", "rows.csv", "--save", "rows.parquet"],
        ["predict", "iris", "rows.csv", "--save", "rows.csv", "--output", "there.csv"],
        ["tokens", "create", "laptop", "--role", "king"],
        ["-s", "http://somewhere", "whoami"],
        ["-s", "somewhere:99999999", "whoami"],
        ["--token-file", "/nowhere/token", "whoami"],
        ["jobs", "retry"],
        ["jobs", "retry", NO_JOB, "--all-failed"],
        ["jobs", "retry", NO_JOB, "--queue", "night"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(run: Run, jobs: fake.Jobs, args: list[str]) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert result.stderr.strip()
    assert not jobs.jobs


@pytest.mark.parametrize(
    "args",
    [
        *(["jobs", verb, NO_JOB] for verb in ("get", "watch", "logs", "cancel", "pause", "resume", "retry", "delete")),
        *(["jobs", verb, NO_JOB] for verb in ("explain", "attempts")),
        ["workers", "get", "wkr_zzzzzzzzzzzzz"],
    ],
)
def test_what_is_not_there_is_not_found(run: Run, args: list[str]) -> None:
    for more in ([], ["--json"]):
        result = run(*args, *more)
        assert (result.exit_code, result.stdout) == (ExitCode.NOT_FOUND, "")
        assert result.stderr.count("\n") == 1


def test_a_wrong_token_says_where_a_token_comes_from(run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("tok-wrong")
    result = run("jobs", "list")
    assert result.exit_code == ExitCode.AUTH
    assert "towpath tokens create" in result.stderr
    assert "tok-wrong" not in result.output


def test_no_scheduler_says_how_to_start_one(run: Run) -> None:
    result = run("--server", "127.0.0.1:1", "jobs", "list")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stderr.count("towpath-server") == 1
    assert "--server HOST:PORT" in result.stderr


def test_a_token_file_that_is_not_there_is_named_once(run: Run, tmp_path: Path) -> None:
    result = run("--token-file", str(tmp_path / "none"), "jobs", "list")
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.count(str(tmp_path / "none")) == 1
    assert "--token-file" in result.stderr


def test_a_wrong_choice_is_told_in_plain_words(run: Run) -> None:
    result = run("jobs", "list", "--state", "sleeping")
    assert "'sleeping' is not one of" in result.stderr
    assert "Value error" not in result.stderr


def test_every_violation_stands_on_its_own_line(run: Run) -> None:
    result = run("train", "flights.csv", "--target", "bad")
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr.splitlines()[1:] == [
        "  job.train.target_column: no such column",
        "  job.train.test_size: must be less than 1",
    ]


def test_an_illegal_move_is_refused(run: Run) -> None:
    run("submit", "echo", "--wait")
    result = run("jobs", "pause", JOB)
    assert result.exit_code == ExitCode.REFUSED
    assert "SUCCEEDED" in result.stderr


def test_a_failed_job_exits_1_and_says_why(run: Run) -> None:
    result = run("submit", "fail", "--wait")
    assert (result.exit_code, result.stdout) == (ExitCode.JOB_FAILED, "")
    assert "no such thing" in result.stderr
    assert run("jobs", "watch", JOB).exit_code == ExitCode.JOB_FAILED
    assert "KeyError" in run("jobs", "get", JOB).stdout


def test_a_local_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    result = run("train", f"@{tmp_path / 'none.csv'}", "--target", "late")
    assert result.exit_code == ExitCode.LOCAL
    assert "none.csv" in result.stderr


def test_debug_shows_the_traceback(scheduler: tuple[str, fake.Jobs]) -> None:
    environment = {"TOWPATH_DEBUG": "1", "TOWPATH_TOKEN": fake.TOKEN, "TOWPATH_ADDRESS": scheduler[0]}
    result = CliRunner().invoke(app, ["jobs", "get", NO_JOB], env=environment)
    assert "Traceback" in result.stderr
    assert fake.TOKEN not in result.output


NOBODY = "127.0.0.1:9"


def test_several_addresses_of_which_the_first_is_dead(
    run: Run, scheduler: tuple[str, fake.Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "sample", lambda addresses, count: addresses)
    several = f"{NOBODY},{scheduler[0]}"
    assert run("--server", several, "whoami").exit_code == ExitCode.OK
    # The one call that is never made twice.
    assert run("tokens", "create", "mine", "--role", "worker", "--server", several).exit_code == ExitCode.OK


def test_several_addresses_that_are_wrong_or_dead(run: Run) -> None:
    result = run("--server", f"{NOBODY},,b", "whoami")
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert "part 2" in result.stderr
    result = run("--server", f"{NOBODY},127.0.0.2:9", "whoami")
    assert (result.exit_code, result.stdout) == (ExitCode.UNAVAILABLE, "")
    assert f"{NOBODY} or 127.0.0.2:9" in result.stderr
