"""`towpath-server new-token`: an admin's token where the last one is lost, and what it refuses."""

from __future__ import annotations

import asyncio
import signal
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support import postgres_store, processes
from towpath import Client
from towpath.errors import Unauthenticated
from towpath_server import app, command, log
from towpath_server.core.errors import StoreUnavailable
from towpath_server.core.records import Role, Token
from towpath_server.scheduler import Scheduler
from towpath_server.scheduler.access import Access, hash_of
from towpath_server.store.base import Recorded, Store
from towpath_server.store.postgres import PostgresStore
from towpath_server.store.sqlite import SqliteStore

ORIGIN = "towpath-server new-token"


def said_by(words: list[str], environment: dict[str, str], code: int = 0) -> str:
    """All that the real command says."""
    done = subprocess.run(
        [sys.executable, "-m", "towpath_server", "new-token", *words],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


def secret_in(path: Path) -> str:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text(encoding="utf-8").strip()


def made(store: Store, secret: str) -> Token:
    """The token with this secret, of which exactly one event tells."""
    [token] = [one for one in store.records(Token) if one.secret_hash == hash_of(secret)]
    assert (token.tenant, token.user, token.role, token.expire_time) == ("default", "admin", Role.ADMIN, None)
    told = [one for one in store.audit(Recorded(action="token.created"), 100) if one.origin == ORIGIN]
    [event] = [one for one in told if one.details["name"] == token.name]
    assert (event.tenant, event.token_id, event.details["role"], event.details["of"]) == ("", 0, "admin", "admin")
    return token


def refused(address: str, secret: str) -> bool:
    with Client(address, secret) as client:
        try:
            client.whoami()
        except Unauthenticated:
            return True
        return False


def test_it_is_a_way_back_to_a_scheduler_whose_last_token_is_lost(tmp_path: Path) -> None:
    config, other = tmp_path / "config", tmp_path / "other.token"
    words = ["--store", f"sqlite:///{tmp_path / 'towpath.db'}", "--config-dir", str(config)]
    with processes.scheduler(tmp_path) as at:
        first = at.token
        with Client(at.address, first) as client:
            gone, revoked = client.create_token("gone", role="submitter")
            client.revoke_token(gone.token_id)
        told = said_by(words, processes.clean(), code=1)
        assert f"in use by a scheduler (process {at.process.pid}). Stop it, run this again" in told
        assert secret_in(config / "token") == first
        assert len(list(config.iterdir())) == 1
    said = said_by(words, processes.clean())
    said += said_by([*words, "--output", str(other), "--name", "spare"], processes.clean())
    again = said_by([*words, "--output", str(other)], processes.clean(), code=1)
    assert f"{other} is there already" in again
    fresh, spare = secret_in(config / "token"), secret_in(other)
    assert len({first, fresh, spare}) == 3
    assert not any(secret in said for secret in (first, fresh, spare))
    assert f"written to {config / 'token'}" in said
    assert f"written to {other}" in said
    assert f"export TOWPATH_TOKEN_FILE={other}" in said
    [aside] = config.glob("token.*")
    assert secret_in(aside) == first
    with closing(SqliteStore(tmp_path / "towpath.db")) as store:
        assert (made(store, fresh).name, made(store, spare).name) == ("new admin", "spare")
        assert len(store.records(Token)) == 4
    with processes.scheduler(tmp_path) as at:
        assert [refused(at.address, one) for one in (first, fresh, spare, revoked)] == [False, False, False, True]
        with Client(at.address, fresh) as client:
            assert client.whoami().user == "admin"
            assert client.create_token("more", role="admin")[1]
            assert {event.origin for event in client.audit(action="token.created")} >= {ORIGIN}


async def test_on_postgresql_a_scheduler_that_runs_takes_it_at_once(tmp_path: Path) -> None:
    url = postgres_store.place()
    store = PostgresStore(url)
    scheduler = Scheduler(store, clock=app.clock_of(store))
    await scheduler.start()
    try:
        file = tmp_path / "token"
        said = await asyncio.to_thread(said_by, ["--output", str(file)], processes.on_store(url))
        secret = secret_in(file)
        assert secret not in said
        await scheduler.catch_up()
        assert scheduler.access.authenticate(secret).role is Role.ADMIN
    finally:
        await scheduler.stop()
    with closing(postgres_store.kept()) as left:
        made(left, secret)


class Here:
    """The command in this process, on a store with one token."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.config, self.file = folder / "config", folder / "towpath.db"
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def tokens(self) -> int:
        with closing(SqliteStore(self.file)) as store:
            return len(store.records(Token))

    def __call__(self, *words: str, code: int) -> str:
        store = ["--store", f"sqlite:///{self.file}", "--config-dir", str(self.config)]
        self._monkeypatch.setattr(sys, "argv", ["towpath-server", "new-token", *store, *words])
        ended: object = 0
        try:
            command.main()
        except SystemExit as end:
            ended = end.code
        assert ended == code
        return "".join(self._capsys.readouterr())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.setenv("TOWPATH_SERVER_CONFIG", str(tmp_path / "server.toml"))
    monkeypatch.setattr(log, "to_stderr", lambda level, as_json: None)
    with closing(SqliteStore(tmp_path / "towpath.db")) as store, store.transaction():
        lost = hash_of("lost")
        store.put(
            [
                Token(
                    token_id=1,
                    secret_hash=lost,
                    name="first admin",
                    tenant="default",
                    user="admin",
                    role=Role.ADMIN,
                    create_time=1,
                )
            ]
        )
    return Here(tmp_path, monkeypatch, capsys)


def test_what_it_refuses_changes_nothing(here: Here, tmp_path: Path) -> None:
    assert "a store in memory is gone with its scheduler" in here("--store", "memory:", code=2)
    assert "There is no file" in here("--store", f"sqlite:///{tmp_path / 'none.db'}", code=1)
    assert not (tmp_path / "none.db").exists()
    SqliteStore(tmp_path / "new.db").close()
    assert "has never had a token" in here("--store", f"sqlite:///{tmp_path / 'new.db'}", code=1)
    assert "change the password" in here("--store", "postgresql://ada:pw@db/towpath", code=2)
    assert "--output" in here("--output", str(tmp_path / "no" / "folder"), code=1)
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "elsewhere")
    assert "--output" in here("--output", str(dangling), code=1)
    assert not (tmp_path / "elsewhere").exists()
    assert not here.config.exists()
    assert here.tokens() == 1


@pytest.mark.parametrize("output", [False, True], ids=["folder", "output"])
def test_a_store_that_does_not_take_it_leaves_the_files_as_they_were(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: bool
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(Access, "issue", away)
    here.config.mkdir()
    (here.config / "token").write_text("lost\n", encoding="utf-8")
    words = ["--output", str(tmp_path / "own")] if output else []
    assert "did not take the token" in here(*words, code=1)
    assert not (tmp_path / "own").exists()
    assert [(one.name, one.read_text(encoding="utf-8")) for one in here.config.iterdir()] == [("token", "lost\n")]
    assert here.tokens() == 1


@pytest.mark.parametrize("kept", [True, False], ids=["after", "before"])
def test_ctrl_c_leaves_a_token_in_the_file_and_in_the_store_or_in_neither(
    here: Here, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    issue = Access.issue

    async def interrupted(self: Access, *words: Any, **more: Any) -> tuple[Token, str]:
        if kept:
            await issue(self, *words, **more)
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Access, "issue", interrupted)
    # As a terminal has it: what ran in this process before may have left another one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        said = here(code=0 if kept else 130)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ("nothing was changed" in said) is not kept
    assert here.tokens() == 1 + kept
    assert (here.config / "token").exists() is kept
