"""`towpath doctor` against everything that can be wrong, each made for real: what it says, and its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.certificates import DAY, Authority, Files
from support.fake_jobs import FakeJobs, serving
from support.rpc_stage import Stage, stage
from towpath.cli.app import app
from towpath.doctor import calls, wire
from towpath_server.core.records import Role
from towpath_server.rpc.server import make_server
from towpath_server.scheduler import system_clock
from towpath_server.tls_files import Certificates, TlsFiles

HOUR = timedelta(hours=1)


@dataclass
class Town:
    """A scheduler behind as many ports as a test wants, and a token file for it."""

    folder: Path
    stage: Stage
    ca: Authority
    token: Path
    _stack: AsyncExitStack

    async def tls(self, shown: Files, client_ca: Path | None = None) -> str:
        """Another port of the scheduler, with this certificate."""
        credentials = Certificates(TlsFiles(shown.cert, shown.key, client_ca)).credentials()
        server = make_server(self.stage.scheduler, tls=credentials)
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        return f"127.0.0.1:{server.port}"

    async def says(self, *args: str, code: int, env: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """What the doctor finds wrong; all that it finds where nothing is."""
        clean = {name: None for name in os.environ if name.startswith("TOWPATH_")}
        environment = {**clean, "TOWPATH_TOKEN_FILE": str(self.token), **(env or {})}

        def run() -> list[dict[str, Any]]:
            ran = CliRunner().invoke(app, ["doctor", "--json", *args], env=environment)
            assert ran.exit_code == code, ran.output
            assert not any(secret in ran.output for secret in self.stage.tokens.values())
            found = json.loads(ran.stdout)
            assert found["ok"] is (code == 0)
            checks: list[dict[str, Any]] = found["checks"]
            return [one for one in checks if one["ok"] is (code == 0)]

        return await asyncio.to_thread(run)

    async def wrong(self, check: str, *args: str, env: dict[str, str] | None = None) -> str:
        """What it says of the one thing that is wrong, and what to do."""
        (found,) = await self.says(*args, code=1, env=env)
        assert found["check"] == check, found
        assert found["advice"]
        return f"{found['words']} {found['advice']}"


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(stage())
        token = tmp_path / "token"
        token.write_text(made.tokens[Role.SUBMITTER])
        token.chmod(0o600)
        yield Town(tmp_path, made, Authority(tmp_path), token, stack)


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A port where each connection gets these bytes at once, and nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def serve() -> None:
            kept = []
            while not over.is_set():
                one, _ = server.accept()
                kept.append(one)
                one.sendall(answer)
            for one in kept:
                one.close()

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        try:
            yield address
        finally:
            over.set()
            socket.create_connection(server.getsockname()).close()
            thread.join()


async def test_all_is_well(town: Town) -> None:
    found = await town.says("-s", town.stage.address, code=0)
    assert [one["check"] for one in found] == [
        *("token file", "name", "connection", "plain text", "gRPC", "token", "clock", "version"),
    ]
    assert "submitter" in found[5]["words"]
    secured = await town.tls(town.ca.server("127.0.0.1"), town.ca.cert)
    shown = town.ca.client()
    files = ("--tls-ca", str(town.ca.cert), "--tls-cert", str(shown.cert), "--tls-key", str(shown.key))
    found = await town.says("-s", secured, *files, code=0)
    assert [one["check"] for one in found][4:5] == ["TLS"]
    env = {"TOWPATH_TLS_CA": files[1], "TOWPATH_TLS_CERT": files[3], "TOWPATH_TLS_KEY": files[5]}
    again = await town.says("-s", secured, code=0, env=env)
    assert [one["check"] for one in again] == [one["check"] for one in found]


async def test_what_it_prints_for_people(town: Town) -> None:
    def run() -> str:
        env = {"TOWPATH_TOKEN_FILE": str(town.token), "TOWPATH_TOKEN": None}
        ran = CliRunner().invoke(app, ["doctor", "-s", f"{town.stage.address},127.0.0.1:1"], env=env)
        assert ran.exit_code == 1
        return ran.stdout

    lines = (await asyncio.to_thread(run)).splitlines()
    assert f"{town.stage.address}" in lines
    assert any(line.startswith("  ok     version:") for line in lines)
    assert lines[-2:] == [
        "  WRONG  connection: Nobody listens at 127.0.0.1 port 1.",
        "         Start the scheduler there (towpath-server), or name another one: --server HOST:PORT",
    ]


async def test_the_way_there(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "HOST:PORT" in await town.wrong("address", "-s", "https://there:7070")
    assert "no machine called" in await town.wrong("name", "-s", "no-such-host.invalid")
    assert "towpath-server" in await town.wrong("connection", "-s", "127.0.0.1:1")
    assert "Nobody listens" in await town.wrong("connection", "-s", f"unix:{town.folder / 'none'}")
    monkeypatch.setattr(wire, "PATIENCE", 0.2)
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert "no Towpath scheduler" in await town.wrong("protocol", "-s", address)
        assert "no Towpath scheduler" in await town.wrong("protocol", "-s", address, "--tls-ca", str(town.ca.cert))
    with answering(b"") as address:
        assert "says nothing" in await town.wrong("protocol", "-s", address)
    with socket.socket() as full:
        # Whoever does not take connections from its backlog soon answers no more of them.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = f"127.0.0.1:{full.getsockname()[1]}"
        with socket.create_connection(full.getsockname()):
            assert "firewall" in await town.wrong("connection", "-s", address)
    with serving(FakeJobs()) as other:
        assert "no Towpath" in await town.wrong("gRPC", "-s", other)


async def test_tls_and_plain_text(town: Town) -> None:
    secured = await town.tls(town.ca.server("127.0.0.1"))
    assert "speaks TLS" in await town.wrong("TLS", "-s", secured)
    assert "speaks plain text" in await town.wrong("TLS", "-s", town.stage.address, "--tls-ca", str(town.ca.cert))
    assert "not both" in await town.wrong("TLS files", "-s", secured, "--insecure", "--tls-ca", str(town.ca.cert))
    assert "Cannot read" in await town.wrong("TLS files", "-s", secured, "--tls-ca", "/no/where")
    assert "together" in await town.wrong("TLS files", "-s", secured, "--tls-cert", str(town.ca.cert))


async def test_a_certificate_that_does_not_convince(town: Town) -> None:
    ca = ("--tls-ca", str(town.ca.cert))
    secured = await town.tls(town.ca.server("127.0.0.1"))
    other = Authority(town.folder, "other")
    assert "of another CA" in await town.wrong("certificate", "-s", secured, "--tls-ca", str(other.cert))
    shown = town.ca.client()
    unknown = await town.wrong(
        "certificate", "-s", secured, env={"TOWPATH_TLS_CERT": str(shown.cert), "TOWPATH_TLS_KEY": str(shown.key)}
    )
    assert "--tls-ca FILE" in unknown
    misnamed = await town.tls(town.ca.server("sched.home", "10.1.2.3"))
    assert "is for sched.home, 10.1.2.3, not for 127.0.0.1" in await town.wrong("certificate", "-s", misnamed, *ca)
    over = await town.tls(town.ca.server("127.0.0.1", ends=-HOUR))
    assert "has expired on" in await town.wrong("certificate", "-s", over, *ca)
    early = await town.tls(town.ca.server("127.0.0.1", starts=HOUR))
    assert "clock" in await town.wrong("certificate", "-s", early, *ca)
    client = await town.tls(town.ca.client())
    assert "not one for a server" in await town.wrong("certificate", "-s", client, *ca)


async def test_a_certificate_of_ones_own_that_is_missing_or_not_taken(town: Town) -> None:
    secured = await town.tls(town.ca.server("127.0.0.1"), town.ca.cert)
    ca = ("--tls-ca", str(town.ca.cert))
    assert "shows no certificate" in await town.wrong("client certificate", "-s", secured, *ca)
    for shown in (Authority(town.folder, "other").client(), town.ca.client(ends=-DAY)):
        own = ("--tls-cert", str(shown.cert), "--tls-key", str(shown.key))
        assert "does not take" in await town.wrong("client certificate", "-s", secured, *ca, *own)


async def test_the_token(town: Town) -> None:
    at = ("-s", town.stage.address)
    nowhere = {"TOWPATH_TOKEN_FILE": "", "XDG_CONFIG_HOME": str(town.folder / "empty")}
    assert "no token" in await town.wrong("token", *at, env=nowhere)
    assert "Cannot read" in await town.wrong("token", *at, "--token-file", "/no/where")
    assert "blanks" in await town.wrong("token", *at, env={"TOWPATH_TOKEN": "two words"})
    assert "does not look like one" in await town.wrong("token", *at, env={"TOWPATH_TOKEN": "tow_cut"})
    access = town.stage.scheduler.access
    unknown = {"TOWPATH_TOKEN": "tow_" + "0" * 64}
    refused = await town.wrong("token", *at, env=unknown)
    assert "has expired, was revoked, or is of another" in refused
    token, secret = await access.issue("default", "admin", "old", Role.SUBMITTER)
    found = await town.says(*at, code=0, env={"TOWPATH_TOKEN": secret})
    assert "does not expire" in next(one["words"] for one in found if one["check"] == "token")
    await access.revoke(access.authenticate(town.stage.tokens[Role.ADMIN]), token.token_id)
    assert await town.wrong("token", *at, env={"TOWPATH_TOKEN": secret}) == refused
    _, over = await access.issue("default", "admin", "short", Role.SUBMITTER, 1)
    assert await town.wrong("token", *at, env={"TOWPATH_TOKEN": over}) == refused
    _, invitation = await access.issue("default", "admin", "barge", Role.ENROLLMENT, HOUR // timedelta(microseconds=1))
    assert "is an invitation" in await town.wrong("token", *at, env={"TOWPATH_TOKEN": invitation})


@pytest.mark.skipif(os.name != "posix", reason="looks at the modes of files")
async def test_secrets_that_others_can_read(town: Town) -> None:
    town.token.chmod(0o644)
    assert "chmod 600" in await town.wrong("token file", "-s", town.stage.address)
    town.token.chmod(0o600)
    secured, shown = await town.tls(town.ca.server("127.0.0.1")), town.ca.client()
    shown.key.chmod(0o640)
    own = ("--tls-ca", str(town.ca.cert), "--tls-cert", str(shown.cert), "--tls-key", str(shown.key))
    assert "chmod 600" in await town.wrong("key file", "-s", secured, *own)


@pytest.mark.parametrize(("ahead", "words"), [(HOUR, "3600 s behind"), (-2 * HOUR, "7200 s ahead of")])
async def test_a_clock_that_goes_wrong(ahead: timedelta, words: str, tmp_path: Path) -> None:
    real, shift = system_clock(), [0]
    async with stage(clock=replace(real, wall=lambda: real.wall() + shift[0])) as made, AsyncExitStack() as stack:
        # The scheduler has run for a while.
        shift[0] = int(ahead.total_seconds() * 1e6)
        token = tmp_path / "token"
        token.write_text(made.tokens[Role.SUBMITTER])
        token.chmod(0o600)
        town = Town(tmp_path, made, Authority(tmp_path), token, stack)
        assert words in await town.wrong("clock", "-s", made.address)


@pytest.mark.parametrize(
    ("mine", "theirs", "is_well", "words"),
    [
        ("1.4.2", "1.4.0", True, ""),
        ("1.4.0", "1.6.9", True, "upgrade it when you can"),
        ("1.4.0", "1.7.0", False, "Upgrade Towpath here"),
        ("1.4.0", "2.0.0", False, "Upgrade Towpath here"),
        ("1.5.0", "1.4.9", False, "Upgrade the scheduler"),
        ("", "1.4.9", True, ""),
    ],
)
def test_versions_that_may_work_together(mine: str, theirs: str, is_well: bool, words: str) -> None:
    found = calls.versions("here:1", mine, theirs)
    assert found.is_well is is_well
    assert words in f"{found.words} {found.advice}"
