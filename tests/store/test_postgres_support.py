"""The server that the tests start: what other tests take for granted about it."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from support.postgres import Postgres, psycopg, shared

KILLED = """
import os, signal
from support.postgres import Postgres
print(Postgres().folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    shared()  # it skips where there is no PostgreSQL
    server = Postgres(durable=True, tcp=True)
    yield server
    server.remove()
    assert not server.folder.exists()


def test_databases_are_copied_cleared_and_dropped() -> None:
    server = shared()
    first = server.database()
    with psycopg.connect(server.url(first), autocommit=True) as connection:
        connection.execute("CREATE TABLE parents (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE children (id int REFERENCES parents)")
        connection.execute("CREATE TABLE migrations (id int)")
        connection.execute(
            "INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1); INSERT INTO migrations VALUES (1)"
        )
    second = server.database(like=first)
    server.clear(second)
    with psycopg.connect(server.url(second)) as connection:
        counts = (
            "SELECT (SELECT count(*) FROM parents), (SELECT count(*) FROM children), (SELECT count(*) FROM migrations)"
        )
        assert connection.execute(counts).fetchone() == (0, 0, 1)
    with psycopg.connect(server.url(first)) as connection:
        assert connection.execute(counts).fetchone() == (1, 1, 1)
    server.drop(first)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(server.url(first))


def test_its_user_may_do_what_a_users_user_may_and_no_more(own: Postgres) -> None:
    assert stat.S_IMODE(own.folder.stat().st_mode) == 0o700
    database = own.database()
    with psycopg.connect(own.url(database, tcp=True)) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(own.url(database, tcp=True), password="wrong")


def test_what_was_committed_outlives_a_kill_and_what_was_not_does_not(own: Postgres) -> None:
    url = own.url(own.database(), tcp=True)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept (id int)")
        connection.commit()
        connection.execute("INSERT INTO kept VALUES (1)")
        processes = [psutil.Process(own.pid), *psutil.Process(own.pid).children(recursive=True)]
        assert psutil.Process(connection.info.backend_pid) in processes
        own.kill()
        assert not any(process.is_running() for process in processes)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("INSERT INTO kept VALUES (2)")
    assert "not properly shut down" not in own.log.read_text()
    own.start()
    assert "not properly shut down" in own.log.read_text()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_it_ends_with_the_tests_even_when_they_are_killed() -> None:
    shared()
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests"), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE, text=True) as killed:
        folder = Path(killed.communicate(timeout=60)[0].strip())
    assert killed.returncode == -signal.SIGKILL
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0])).wait(30)
    shutil.rmtree(folder)
