"""`towpath-server backup` and `restore` by the real programs, under load and killed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import processes
from support.killed_restore import asides, jobs_in
from support.processes import Scheduler
from support.store_samples import fill, job
from towpath import Client, JobState
from towpath_server import command
from towpath_server.store.sqlite import SqliteStore
from towpath_server.store.sqlite.schema import migrations

JOB_TYPES = ("--handlers", "support.job_types", "--allow", "test.echo", "--slots", "2")
ROOT = Path(__file__).parents[3]


def towpath_server(*words: str | Path) -> str:
    """What the program says. It must end well."""
    done = subprocess.run(
        [sys.executable, "-m", "towpath_server", *map(str, words)],
        env=processes.clean(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def load(at: Scheduler, acknowledged: dict[str, int]) -> Iterator[None]:
    """Clients that submit without an end."""
    stop = threading.Event()

    def submit(first: int) -> None:
        with Client(at.address, at.token) as client:
            number = first
            while not stop.is_set():
                acknowledged[client.submit("test.echo", {"value": number}).job_id] = number
                number += 2

    threads = [threading.Thread(target=submit, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def until(condition: Any, at: Scheduler) -> None:
    """Wait for what the load brings about, and leave the machine to it."""
    while not condition():
        assert at.process.poll() is None
        time.sleep(0.05)


def test_line_17_a_backup_taken_under_load_restores_to_jobs_that_all_end_once(tmp_path: Path) -> None:
    first, second, copied = tmp_path / "first", tmp_path / "second", tmp_path / "copy.sqlite"
    first.mkdir()
    (second / "config").mkdir(parents=True)
    acknowledged: dict[str, int] = {}
    with processes.scheduler(first) as at, processes.worker(at, tmp_path / "one", *JOB_TYPES):
        with Client(at.address, at.token) as client, load(at, acknowledged):
            until(lambda: len(acknowledged) >= 100 and client.stats().by_state, at)
            before = dict(acknowledged)
            said = towpath_server("backup", "--store", f"sqlite:///{first / 'towpath.db'}", "--json", copied)
            until(lambda: len(acknowledged) > len(before), at)
        shutil.copy(at.token_file, second / "config")
    told = json.loads(said)
    assert told["jobs"] >= len(before)
    assert (told["path"], told["bytes"]) == (str(copied), copied.stat().st_size)
    assert stat.S_IMODE(copied.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second", "one", "copy.sqlite"}

    towpath_server("restore", "--store", f"sqlite:///{second / 'towpath.db'}", copied)
    with (
        processes.scheduler(second) as at,
        processes.worker(at, tmp_path / "two", *JOB_TYPES),
        Client(at.address, at.token) as client,
    ):
        for job_id, value in before.items():
            assert client.job(job_id).result(timeout=60) == value
        until(lambda: not client.stats().active_count, at)
        assert client.stats().by_state == {JobState.SUCCEEDED: told["jobs"]}
    succeeded = rows(second / "towpath.db", "SELECT job_id, number FROM attempts WHERE outcome = 1")
    assert not succeeded, "a job that succeeded tells so itself, and was never run again"


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as store:
        return store.execute(sql).fetchall()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
def test_a_restore_that_is_killed_anywhere_leaves_the_old_store_or_the_new_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.killed_restore", str(tmp_path)],
        env=processes.clean(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


# The commands, in this process.


@pytest.fixture(name="say")
def _say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command: its exit status and what it said."""

    def say(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["towpath-server", *map(str, words)])
        status = 0
        try:
            command.main()
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return say


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Path:
    """A store of two jobs that nobody has open."""
    path = tmp_path / "data" / "towpath.db"
    store = SqliteStore(path)
    fill(store, [job(1), job(2)])
    store.close()
    return path


def at(path: Path) -> tuple[str, str]:
    return "--store", f"sqlite:///{path}"


def test_a_backup_says_what_it_did_and_never_writes_over_a_file_unasked(say: Any, store: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy.sqlite"
    status, said, _ = say("backup", *at(store), copied)
    assert (status, said.startswith("copied 2 jobs (2 not final), ")) == (0, True)
    assert said.rstrip().endswith(f"s to {copied}")
    status, said, wrong = say("backup", *at(store), copied)
    assert (status, said) == (1, "")
    assert "is there already. Choose another name, or give --force" in wrong
    assert say("backup", *at(store), "--force", copied)[0] == 0
    # Into a folder, under a name with the time.
    folder = tmp_path / "folder"
    folder.mkdir()
    assert say("backup", *at(store), folder)[0] == 0
    [dated] = folder.iterdir()
    assert dated.name.startswith("towpath-20")
    assert jobs_in(dated) == jobs_in(copied) == {1, 2}


def test_a_backup_of_what_is_not_there_or_not_ours_is_refused_and_makes_nothing(say: Any, tmp_path: Path) -> None:
    other, text = tmp_path / "other.db", tmp_path / "text.db"
    rows(other, "CREATE TABLE x (y)")
    text.write_text("words " * 1000, encoding="utf-8")
    (tmp_path / "empty.db").touch()
    before = sorted(tmp_path.iterdir())
    for name, words in {
        "nowhere.db": "There is no file",
        "other.db": "another program",
        "text.db": "cannot be used as a store",
        "empty.db": "is empty",
    }.items():
        status, _, wrong = say("backup", *at(tmp_path / name), tmp_path / "copy.sqlite")
        assert (status, words in wrong) == (1, True), wrong
    assert [one for one in sorted(tmp_path.iterdir()) if not one.name.endswith(("-wal", "-shm"))] == before


def test_wrong_words_end_with_2_before_anything_is_done(say: Any, store: Path, tmp_path: Path) -> None:
    for words in (
        ("backup",),
        ("restore",),
        ("backup", "--store", "memory:", "x"),
        ("restore", "--store", "nonsense", "x"),
        ("backup", *at(store), "a", "b"),
    ):
        assert say(*words)[0] == 2, words
    status, _, wrong = say("backup", *at(store), tmp_path / "no" / "folder" / "copy")
    assert (status, "There is no folder" in wrong) == (1, True)
    status, _, wrong = say("backup", *at(store), "--force", store)
    assert (status, "is the store itself" in wrong) == (1, True)
    status, _, wrong = say("restore", *at(store), store)
    assert (status, "is the store itself" in wrong) == (1, True)
    assert jobs_in(store) == {1, 2}


def test_a_restore_keeps_the_store_of_before_and_says_what_to_know(say: Any, store: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy.sqlite"
    say("backup", *at(store), copied)
    opened = SqliteStore(store)
    fill(opened, [job(3)])
    status, _, wrong = say("restore", *at(store), copied)
    assert (status, f"in use by a scheduler (process {os.getpid()}). Stop it first." in wrong) == (1, True)
    opened.close()
    status, said, _ = say("restore", *at(store), copied)
    assert status == 0
    assert "Jobs submitted later are not there, those that ended later run again" in said
    assert jobs_in(store) == {1, 2}
    [aside] = asides(store)
    assert str(aside) in said
    assert jobs_in(aside) == {1, 2, 3}
    # And back again, from what was kept, told to a program.
    status, said, _ = say("restore", *at(store), "--json", aside)
    assert (status, json.loads(said)["jobs"], jobs_in(store)) == (0, 3, {1, 2, 3})


def test_a_restore_of_a_damaged_newer_or_foreign_file_leaves_the_store(say: Any, store: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy.sqlite"
    say("backup", *at(store), copied)
    whole = copied.read_bytes()
    damaged = {
        "newer": (whole[:60] + (migrations()[-1].version + 1).to_bytes(4, "big") + whole[64:], "newer Towpath"),
        "torn": (whole[: len(whole) // 2], "cannot be used as a store"),
        "text": (b"words " * 2000, "cannot be used as a store"),
        "hole": (whole[:16384] + bytes([0xAA]) * 4096 + whole[20480:], "cannot be used as a store"),
    }
    before = store.read_bytes()
    for name, (content, words) in damaged.items():
        file = tmp_path / name
        file.write_bytes(content)
        status, said, wrong = say("restore", *at(store), file)
        assert (status, said, words in wrong) == (1, "", True), wrong
        assert str(file) in wrong
        assert store.read_bytes() == before
    assert not asides(store)
    assert jobs_in(store) == {1, 2}


def test_a_damaged_store_is_kept_with_its_log_when_a_backup_takes_its_place(
    say: Any, store: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copy.sqlite"
    say("backup", *at(store), copied)
    store.write_bytes(b"ruins" * 2000)
    log = store.with_name(f"{store.name}-wal")
    log.write_bytes(b"what may still be of use")
    assert say("restore", *at(store), copied)[0] == 0
    [aside] = asides(store)
    assert aside.read_bytes() == b"ruins" * 2000
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == b"what may still be of use"
    assert jobs_in(store) == {1, 2}


def test_an_old_release_s_store_is_copied_as_it_is_and_restored_up_to_date(say: Any, tmp_path: Path) -> None:
    old = Path(shutil.copy(ROOT / "tests" / "data" / "store-0001.sqlite", tmp_path / "towpath.db"))
    copied, new = tmp_path / "copy.sqlite", tmp_path / "new" / "towpath.db"
    _, said, _ = say("backup", *at(old), "--json", copied)
    assert json.loads(said)["schema"] == 1
    _, said, _ = say("restore", *at(new), "--json", copied)
    told = json.loads(said)
    assert (told["schema"], told["jobs"], told["aside"]) == (migrations()[-1].version, 24, None)
    SqliteStore(new).close()


def test_the_help_names_the_commands(say: Any) -> None:
    status, said, _ = say("--help")
    assert status == 0
    assert "towpath-server backup" in said
    assert "towpath-server restore" in said
    assert "default factory" not in said


def test_a_store_that_another_program_looks_into_is_not_put_aside(say: Any, store: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy.sqlite"
    say("backup", *at(store), copied)
    with closing(sqlite3.connect(store)) as looker:
        looker.execute("SELECT * FROM jobs").fetchone()
        status, _, wrong = say("restore", *at(store), copied)
    assert (status, "open in another program" in wrong) == (1, True)
    assert not asides(store)
    assert say("restore", *at(store), copied)[0] == 0
