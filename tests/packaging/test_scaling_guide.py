"""What docs/scaling.md says is done here, from the top to the end: its commands are run, on a real PostgreSQL."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.scaling import page
from support import processes
from support.certificates import certify
from support.postgres import SUPERUSER, USER, Postgres, found_programs, psycopg
from support.processes import Process
from towpath import Client, JobState
from towpath_server import store_url

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
BACKUP = (ROOT / "docs" / "backup.md").read_text(encoding="utf-8").partition("\n## A store in PostgreSQL\n")[2]
BIN = Path(sys.executable).parent
SCHEDULERS = ("a", "b", "c")
ADDRESSES = ",".join(f"{name}.example:7070" for name in SCHEDULERS)

# What trains and predicts takes longer to begin than all the rest here.
HANDLER = """
from towpath_worker import Context, handler


@handler("greet.now", inline=True)
def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"
"""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Evening:
    """A reader who types what the guide says, on one machine in place of five."""

    def __init__(self, home: Path, postgres: Postgres) -> None:
        self.home = home
        self.postgres = postgres
        self.superuser = postgres.url("postgres", tcp=True).rpartition("/")[0]
        self.place = self.superuser.rpartition("@")[2]
        self.addresses: dict[str, str] = {}
        programs = home / "bin"
        programs.mkdir()
        sudo = programs / "sudo"
        there = f"PGHOST={postgres.folder} PGPORT={self.place.rpartition(':')[2]} PGUSER={SUPERUSER}"
        sudo.write_text(f'#!/bin/sh\n[ "$1 $2" = "-u postgres" ] || exit 9\nshift 2\n{there} exec "$@"\n')
        sudo.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOWPATH_", "XDG_", "PG"))}
        path = os.pathsep.join(map(str, (programs, BIN, found_programs(), os.environ["PATH"])))
        self.environment = {**kept, "HOME": str(home), "PATH": path}

    def meant(self, text: str) -> str:
        """The guide's words, with the places that are here."""
        text = text.replace("db.example:5432", self.place).replace("0.0.0.0:7070", "127.0.0.1:0")
        for name, address in self.addresses.items():
            text = text.replace(f"{name}.example:7070", address)
        return text.replace("~/data", str(self.home))

    def run(self, lines: str) -> str:
        """A block of the guide; what it exports holds for those that follow."""
        exports = self.home / "exports"
        script = f"set -euo pipefail\n{self.meant(lines)}\nenv -0 > {exports}\n"
        done = self._run(["bash", "-c", script])
        exported = (pair.partition("=") for pair in exports.read_text().split("\0") if pair.startswith("TOWPATH_"))
        self.environment |= {name: value for name, _, value in exported}
        return done

    def python(self, lines: str) -> str:
        """An example."""
        return self._run([sys.executable, "-c", self.meant(lines)])

    def query(self, lines: str) -> str:
        """Statements for the database, as its superuser."""
        return self._run(["sudo", "-u", "postgres", "psql", "-v", "ON_ERROR_STOP=1", "-c", lines, "towpath"])

    def start(self, line: str) -> tuple[Process, str]:
        """A program that goes on."""
        words = shlex.split(self.meant(line.removeprefix("$ ")))
        process, address = self.running.enter_context(processes.start(words, self.home, self.environment))
        self.processes.append(process)
        return process, address

    def __enter__(self) -> Evening:
        self.running = ExitStack()
        self.processes: list[Process] = []
        return self

    def __exit__(self, *raised: object) -> None:
        # All at once: each takes a second to leave.
        for process in self.processes:
            process.terminate()
        self.running.close()

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(words, cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, f"{words[-1]}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def evening(tmp_path: Path) -> Iterator[Evening]:
    if found_programs() is None:
        pytest.skip("there is no PostgreSQL")
    postgres = Postgres(durable=True, tcp=True)
    try:
        reader = Evening(tmp_path, postgres)
        # The guide makes it.
        superuser = f"postgresql://{SUPERUSER}@/postgres?host={postgres.folder}&port={reader.place.rpartition(':')[2]}"
        with psycopg.connect(superuser) as connection:
            connection.execute(f"DROP ROLE {USER}")
        with reader:
            yield reader
    finally:
        postgres.remove()


def is_healthy(address: str, ca: Path) -> bool:
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca.read_bytes())) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_every_command_of_the_guide_does_what_it_says(evening: Evening) -> None:
    database, password, move, serve, look, migrate, restarted = blocks(GUIDE, "bash")
    [work], [example], [statements] = blocks(GUIDE, "console"), blocks(GUIDE, "python"), blocks(GUIDE, "sql")
    dump, restore = blocks(BACKUP, "bash")
    certify(evening.home)
    ca = (evening.home / "cert.pem").rename(evening.home / "ca.pem")
    (evening.home / "cert.pem").write_bytes(ca.read_bytes())

    # One machine, on SQLite.
    with processes.start(["towpath-server", "--listen", "127.0.0.1:0"], evening.home, evening.environment) as (_, one):
        token = (evening.home / ".config" / "towpath" / "token").read_text().strip()
        with Client(one, token) as client:
            before = {client.submit("greet", {"name": str(number)}).job_id for number in range(3)}

    evening.run(database)
    evening.run(password)
    assert "moved 3 jobs (3 QUEUED)" in evening.run(move)
    with ThreadPoolExecutor() as threads:
        started = list(threads.map(evening.start, [serve] * len(SCHEDULERS)))
    evening.addresses = dict(zip(SCHEDULERS, [address for _, address in started], strict=True))
    log = evening.home / "towpath-server.log"
    assert "[warning" not in log.read_text()
    (evening.home / "greet.py").write_text(HANDLER, encoding="utf-8")
    evening.environment |= {"TOWPATH_WORKER_HANDLERS": "greet", "TOWPATH_WORKER_ALLOW": "greet.now"}
    evening.start(work)
    assert re.search(r"^QUEUED +3$", evening.run(look), re.MULTILINE)
    assert is_healthy(started[0][1], ca)

    # One of them dies.
    started[0][0].kill()
    assert "SCHEDULED" in evening.python(example)
    with Client(evening.meant(ADDRESSES), token, tls_ca=ca) as client:
        assert {job.job_id for job in client.jobs(states=[JobState.QUEUED])} == before
        assert client.submit("greet.now", {"name": "Ada"}).result() == "Hello Ada"

    assert evening.query(statements).count("replica_id") == 1
    assert evening.run(migrate).count("is up to date (schema") == 2
    assert importlib.metadata.version("towpath") in evening.run(restarted)

    # A backup of all of it.
    evening.run(dump)
    evening.run(restore)
    _, restored = evening.start(serve)
    with Client(restored, token, tls_ca=ca) as client:
        assert {job.job_id for job in client.jobs(states=[JobState.QUEUED])} == before
        assert client.stats().by_state[JobState.SUCCEEDED] == 1


def test_addresses_of_stores_are_taken() -> None:
    for url in re.findall(r"postgresql://\S+/\w+", GUIDE + BACKUP):
        store_url.check(url)
        assert not store_url.holds_password(url)


def test_the_measured_table_has_its_place() -> None:
    assert GUIDE.index(page.BEGIN) < GUIDE.index(page.END)


def headings(path: Path) -> set[str]:
    """As links name them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


def test_links_and_extras_are_known() -> None:
    for page_name in ("scaling.md", "backup.md", "reliability.md"):
        here = ROOT / "docs" / page_name
        for target in re.findall(r"\]\(([^)]+)\)", here.read_text(encoding="utf-8")):
            name, _, heading = target.partition("#")
            there = here.parent / name if name else here
            assert there.exists(), target
            assert not heading or heading in headings(there), target
    [extras] = re.findall(r"'\.\[([\w,-]+)\]'", GUIDE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= known.keys()
