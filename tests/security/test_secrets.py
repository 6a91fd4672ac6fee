"""No secret in anything that the programs write, say or show: real programs, made to work and to fail, then a search.

What a store must hold is left out by name: the store itself keeps leases' tokens and sessions' ids (whoever reads it
can do what a scheduler can), a token only as its SHA-256; two files of mode 0600 keep the admin's token and the
worker's credential.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from support import processes
from support.certificates import Authority
from towpath import AsyncClient, Client, TowpathError
from towpath.cli.app import app
from towpath_server.core.records import Principal, Role, Token
from towpath_server.scheduler.transactions.tokens import Redeem, Revoke, Rotate
from towpath_server.settings import Settings
from towpath_worker.credential import Credential
from towpath_worker.settings import WorkerSettings

# A scheduler with a mistake in it, whose error quotes what it was given.
BROKEN = """
from towpath_server.scheduler.admin import Admin
async def overview(self, principal):
    token = self._state.new_token
    raise RuntimeError("a mistake")
Admin.overview = overview
from towpath_server.__main__ import main
main()
"""
WORKER_TOKEN = "tow_" + "5ec2e7" * 10
PASSWORD = "correct-horse-battery"
STORE = f"postgresql://ann:{PASSWORD}@nowhere.invalid/towpath"
PARAM = "parameter-of-a-job-that-is-nobodys-business"


@dataclass
class Search:
    """Secrets by name, and texts by the place where they were found."""

    secrets: dict[str, str] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)

    def add(self, place: str, text: str) -> None:
        self.texts.append((place, text))

    def found(self, *, but: tuple[str, ...] = ()) -> set[str]:
        assert all(len(secret) >= 16 for secret in self.secrets.values())
        return {
            f"{name} in {place}"
            for name, secret in self.secrets.items()
            if name not in but
            for place, text in self.texts
            if secret in text
        }


@dataclass
class Scene:
    """The programs, and what was seen of them."""

    folder: Path
    search: Search
    client: Client
    scheduler: processes.Scheduler
    ca: Path

    def cli(self, *words: str, **environment: str) -> int:
        """A command in this process; all that it says is searched."""
        given = {
            "TOWPATH_ADDRESS": self.scheduler.address,
            "TOWPATH_TOKEN_FILE": str(self.scheduler.token_file),
            "TOWPATH_TLS_CA": str(self.ca),
            "TOWPATH_TOKEN": None,
        }
        result = CliRunner().invoke(app, list(words), env={**given, **environment})
        self.search.add(f"towpath {' '.join(words)}", result.output + repr(result.exception))
        return result.exit_code

    def fails(self, client: Client) -> None:
        """A call of this client is refused; what the error says and shows is searched."""
        with client, pytest.raises(TowpathError) as refused:
            client.whoami()
        error = refused.value
        self.search.add("an error", f"{error} {error!r} {vars(error)} {client!r} {error.__cause__!r}")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Everything was done, the programs have ended, and what they wrote is gathered."""
    folder, search = tmp_path_factory.mktemp("secrets"), Search()
    authority = Authority(folder / "ca")
    pair = authority.server("127.0.0.1")
    body = [line for line in pair.key.read_text().splitlines() if len(line) > 40 and "-----" not in line]
    search.secrets["the key of the certificate"] = body[0]
    at = folder / "scheduler"
    at.mkdir()
    words = processes.scheduler_words(at, "--listen", processes.FREE, "--log-level", "debug")
    words[1:3] = ["-c", BROKEN]
    words += ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    with processes.start(words, at, processes.clean()) as (process, address):
        scheduler = processes.Scheduler(address, at / "config", process)
        search.secrets["the admin's token"] = scheduler.token
        with Client(address, scheduler.token, tls_ca=authority.cert) as client:
            scene = Scene(folder, search, client, scheduler, authority.cert)
            _do(scene)
            look_at("the scheduler", psutil.Process(process.pid), search)
    _gather(folder, search)
    return scene


def _do(scene: Scene) -> None:
    search, client, folder = scene.search, scene.client, scene.folder
    _, search.secrets["another token"] = client.create_token("ci", "submitter")
    token, search.secrets["a revoked token"] = client.create_token("old", "viewer")
    client.revoke_token(token.token_id)
    _, search.secrets["the invitation"] = client.invite_worker("rack")
    search.secrets |= {"a token in the worker's environment": WORKER_TOKEN, "a password": PASSWORD}
    search.secrets["a parameter"] = PARAM
    at = folder / "worker"
    at.mkdir()
    invitation = at / "invitation"
    invitation.touch(0o600)
    invitation.write_text(search.secrets["the invitation"])
    environment = {
        **processes.clean(),
        "TOWPATH_TLS_CA": str(scene.ca),
        "TOWPATH_WORKER_TOKEN": WORKER_TOKEN,
        "TOWPATH_SERVER_STORE": STORE,
        "TOWPATH_TOKEN": WORKER_TOKEN,
    }
    words = [sys.executable, "-m", "towpath_worker", "join", scene.scheduler.address, "--no-keyring"]
    words += ["--token-file", str(invitation), "--state-dir", str(at / "state"), "--log-level", "debug"]
    with processes.start(
        [
            *words,
            "--handlers",
            "support.job_types",
            "--slots",
            "1",
            "--allow",
            "test.surroundings,test.echo,test.fail,test.crash",
        ],
        at,
        environment,
    ) as (process, _):
        invitation.unlink()
        kept = json.loads((at / "state" / "credential.json").read_text())
        search.secrets["the worker's credential"] = kept["secret"]
        _run_jobs(scene, psutil.Process(process.pid))
        _use_the_command_line(scene)
        # While sessions and leases are there to be looked up.
        with closing(sqlite3.connect(folder / "scheduler" / "towpath.db")) as store:
            [[session]] = store.execute("SELECT session_id FROM workers").fetchall()
            leases = [token for (token,) in store.execute("SELECT last_token FROM jobs") if token]
        search.secrets["a session"] = session
        search.secrets |= {f"lease {number}": token for number, token in enumerate(leases)}
    _fail(scene)
    # Once the scheduler has ended it is gone.
    log = folder / "scheduler" / "towpath.db-wal"
    search.add(str(log.relative_to(folder)), log.read_bytes().decode("latin-1"))


def _run_jobs(scene: Scene, worker: psutil.Process) -> None:
    client, search = scene.client, scene.search
    found: dict[str, Any] = client.submit("test.surroundings", {}).result(timeout=60)
    search.add("a job's surroundings", repr(found))
    assert found["bytes of a core"] == "0"
    look_at("the worker", worker, search)
    for child in worker.children(recursive=True):
        look_at("a job's process", child, search, environment=True)
    client.submit("test.echo", {"value": PARAM}).result(timeout=60)
    for job_type, params in (("test.fail", {"words": f"no {PARAM}"}), ("test.crash", {}), ("test.echo", {PARAM: 1})):
        handle = client.submit(job_type, params, retries=0)
        with pytest.raises(TowpathError) as failed:
            handle.result(timeout=60)
        search.add("a handle", repr(handle))
        assert failed.value


def look_at(place: str, process: psutil.Process, search: Search, *, environment: bool = False) -> None:
    """What others on the machine see of a process; its environment is seen by those of its user."""
    with suppress(psutil.NoSuchProcess):
        search.add(f"the command line of {place}", " ".join(process.cmdline()))
        if environment:
            search.add(f"the environment of {place}", repr(process.environ()))


def _use_the_command_line(scene: Scene) -> None:
    for words in ("tokens list", "workers list", "queues list", "audit", "whoami", "jobs list"):
        assert scene.cli("--json", *words.split()) == 0, words
        assert scene.cli(*words.split()) == 0, words
    out = scene.folder / "made"
    assert scene.cli("tokens", "create", "more", "--role", "viewer", "--output", str(out)) == 0
    scene.search.secrets["a token in a file"] = out.read_text().strip()
    out.unlink()
    assert scene.cli("stats") != 0  # the mistake
    assert scene.cli("whoami", TOWPATH_TOKEN=scene.search.secrets["a revoked token"]) != 0
    assert scene.cli("whoami", TOWPATH_TOKEN=f"{WORKER_TOKEN} x") != 0
    assert scene.cli("--token", WORKER_TOKEN, "whoami") != 0
    assert scene.cli(f"--token={WORKER_TOKEN}", "whoami") != 0


def _fail(scene: Scene) -> None:
    secrets, address = scene.search.secrets, scene.scheduler.address
    for name in ("a revoked token", "the invitation", "a token in the worker's environment"):
        scene.fails(Client(address, secrets[name], tls_ca=scene.ca))
    scene.fails(Client(address, secrets["another token"], insecure=True, timeout=0.5))
    stranger = Authority(scene.folder / "stranger").cert
    scene.fails(Client(address, secrets["another token"], tls_ca=stranger, timeout=0.5))
    with pytest.raises(TowpathError) as mistake:
        scene.client.server_stats()
    scene.search.add("the error of a mistake", repr(mistake.value))


def _gather(folder: Path, search: Search) -> None:
    kept = {folder / "scheduler" / "config" / "token", folder / "worker" / "state" / "credential.json"}
    for file in kept:
        assert file.stat().st_mode & 0o777 == 0o600
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in kept and path.suffix != ".pem":
            search.add(str(path.relative_to(folder)), path.read_bytes().decode("latin-1"))


# Parameters, results and the errors of handlers are their submitters': the store has them, and whoever may list jobs.
OF_THE_STORE = ("scheduler/towpath.db", "towpath --json jobs", "towpath jobs")


def test_no_secret_is_in_anything_that_was_written_or_said(scene: Scene) -> None:
    leaks = scene.search.found()
    of_the_store = {
        one
        for one in leaks
        if one.startswith(("lease", "a session", "a parameter")) and one.partition(" in ")[2].startswith(OF_THE_STORE)
    }
    assert not leaks - of_the_store, sorted(leaks - of_the_store)
    # All of it was looked for, where it would be found.
    assert {name for name in scene.search.secrets if name.startswith("lease")}
    logs = [text for place, text in scene.search.texts if place.endswith(".log")]
    assert len(logs) >= 2
    assert any("a mistake" in text and "Traceback" in text for text in logs)
    assert any(one.endswith("in scheduler/towpath.db") for one in leaks)


def test_listings_say_nothing_of_sessions_and_leases(scene: Scene) -> None:
    shown = [text for place, text in scene.search.texts if place.startswith("towpath ")]
    assert not [
        name
        for name, secret in scene.search.secrets.items()
        if name.startswith(("lease", "a session"))
        if any(secret in text for text in shown)
    ]


def test_no_secret_is_in_what_a_value_shows_of_itself() -> None:
    secret = WORKER_TOKEN
    token = Token(
        token_id=1,
        secret_hash="ab" * 32,
        name="x",
        tenant="t",
        user="u",
        role=Role.ADMIN,
        create_time=1,
        previous_hash="cd" * 32,
    )
    with Client("127.0.0.1:1", secret) as client:
        shown = [client, client.__dict__]
    shown += [
        AsyncClient("127.0.0.1:1", secret),
        WorkerSettings(token=SecretStr(secret)),
        Settings(store=STORE, _cli_parse_args=False),  # type: ignore[call-arg]
        Credential(server="h:1", token_id="tok_1", secret=secret),
        Principal(1, "t", "u", Role.ADMIN, secret_hash="ab" * 32),
        token,
        Revoke(1),
        Rotate(1, "ab" * 32, "cd" * 32),
        Redeem(1, "ab" * 32, token),
    ]
    text = " ".join(f"{one} {one!r}" for one in shown)
    assert secret not in text
    assert PASSWORD not in text
    assert "ab" * 32 not in text
    assert "cd" * 32 not in text
