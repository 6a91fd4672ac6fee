"""`towpath-server` on a command line: what is refused, and that a password is shown nowhere."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.postgres import shared
from support.store_samples import NOW, fill, job
from towpath_server import command, log
from towpath_server.settings import Settings
from towpath_server.store.postgres import PostgresStore, schema
from towpath_server.store.postgres.schema import Migration
from towpath_server.store.sqlite import SqliteStore
from towpath_server.upkeep_settings import MoveSettings

SECRET = "s3cr3t"
WITH_SECRET = f"postgresql://ada:{SECRET}@127.0.0.1:1/towpath?connect_timeout=2"


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWPATH_SERVER_CONFIG", str(tmp_path / "server.toml"))
    monkeypatch.delenv("TOWPATH_SERVER_STORE", raising=False)
    # It would stay for the tests that follow, with a standard error that is closed by then.
    monkeypatch.setattr(log, "to_stderr", lambda level, as_json: None)


@pytest.fixture
def url() -> Iterator[str]:
    """Of an empty database."""
    name = shared().database()
    yield shared().url(name)
    shared().drop(name)


class Shell:
    """Runs the program in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str | Path, code: int = 0) -> str:
        """All that it says; it ends with this code."""
        self._monkeypatch.setattr(sys, "argv", ["towpath-server", *map(str, words)])
        try:
            command.main()
            ended: object = 0
        except SystemExit as end:
            ended = end.code or 0
        said = "".join(self._capsys.readouterr())
        assert ended == code, said
        assert SECRET not in said
        assert "Traceback" not in said
        return said


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["--store", WITH_SECRET],
        [f"--store={WITH_SECRET}"],
        ["--sto", WITH_SECRET],
        ["migrate", "--store", WITH_SECRET],
        ["backup", "--store", WITH_SECRET, "x"],
        ["move", "--from", "sqlite:///a.db", "--to", f"postgresql://db/towpath?password={SECRET}"],
        ["move", "--from", WITH_SECRET, "--to", "sqlite:///a.db"],
        [WITH_SECRET],
    ],
    ids=lambda words: words[0][:12],
)
def test_a_password_on_the_command_line_is_refused_with_what_to_do(shell: Shell, words: list[str]) -> None:
    said = shell(*words, code=2)
    assert "change the password" in said
    assert "PGPASSWORD" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--store", "mysql://db/towpath"], "--store give sqlite:///PATH"),
        (["--store", "postgresql://ada@db"], "--store the address names no database"),
        (["backup", "--store", "postgresql://db/towpath", "x"], "pg_dump"),
        (["restore", "--store", "postgresql://db/towpath", "x"], "pg_restore"),
        (["migrate", "--store", "memory:"], "nothing to migrate"),
        (["move"], "--from Field required"),
        (["move", "--from", "memory:", "--to", "sqlite:///x"], "--from a store in memory"),
        (["move", "--from", "sqlite:///x", "--to", "file"], "--to give sqlite:///PATH"),
        (["move", "--from", "sqlite:///x", "--to", "sqlite:///x"], "the same store"),
    ],
    ids=lambda words: " ".join(words)[:40] if isinstance(words, list) else "",
)
def test_wrong_words_are_explained(shell: Shell, words: list[str], told: str) -> None:
    assert told in shell(*words, code=2)


@pytest.mark.parametrize("command_", [[], ["migrate"]], ids=["serve", "migrate"])
def test_a_password_of_the_environment_or_the_file_is_not_shown(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command_: list[str]
) -> None:
    monkeypatch.setenv("TOWPATH_SERVER_STORE", WITH_SECRET)
    # Nothing listens there.
    assert "postgresql://ada@127.0.0.1" in shell(*command_, code=1)
    monkeypatch.setenv("TOWPATH_SERVER_STORE", f"postgresql://ada:{SECRET}/x@127.0.0.1/towpath")
    assert "as %XX" in shell(*command_, code=2)
    monkeypatch.delenv("TOWPATH_SERVER_STORE")
    (tmp_path / "server.toml").write_text(f'store = "{WITH_SECRET}"\n', encoding="utf-8")
    assert "postgresql://ada@127.0.0.1" in shell(*command_, code=1)
    shell(*command_, "--help")
    (tmp_path / "server.toml").write_text(f'store = "{WITH_SECRET}"\nlisten = "x"\n', encoding="utf-8")
    shell(*command_, "--log-level", "x", code=2)


def test_help_shows_no_secret_and_all_commands(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWPATH_SERVER_STORE", WITH_SECRET)
    monkeypatch.setenv("TOWPATH_SERVER_MOVE_FROM", WITH_SECRET)
    told = shell("--help")
    for word in ("backup", "restore", "migrate", "move", "new-token"):
        assert f"towpath-server {word}" in told
        assert "Usage" in shell(word, "--help") or "usage" in shell(word, "--help")
    assert "--from" in shell("move", "--help")
    assert "--dry-run" in shell("migrate", "--help")
    assert "postgresql://USER@HOST" in " ".join(told.split())


def test_settings_show_no_secret_where_they_are_printed() -> None:
    served = Settings.model_validate({"store": WITH_SECRET})
    moved = MoveSettings.model_validate({"move_from": WITH_SECRET, "move_to": WITH_SECRET + "2"})
    assert SECRET not in f"{served} {served!r} {moved} {moved!r}"
    assert served.shown_store == "postgresql://ada@127.0.0.1:1/towpath?connect_timeout=2"
    assert served.store_path is None
    with pytest.raises(ValueError, match="heartbeat") as refused:
        Settings.model_validate({"store": WITH_SECRET, "heartbeat_interval": 10})
    assert SECRET not in str(refused.value)
    with pytest.raises(ValueError, match="names no database") as refused:
        Settings.model_validate({"store": f"postgresql://ada:{SECRET}@db"})
    assert SECRET not in str(refused.value)


def test_without_the_driver_it_says_what_to_install(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    # `from` and `import` then raise ImportError.
    for name in [name for name in sys.modules if name.startswith("towpath_server.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for words in (["--store"], ["migrate", "--store"], ["move", "--to", "sqlite:///x.db", "--from"]):
        assert "pip install 'towpath[server,postgres]'" in shell(*words, "postgresql://db/towpath", code=1)


def test_migrate_says_what_it_did(shell: Shell, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = schema.migrations()
    newest = first[-1].version
    assert "would be brought from schema 0" in shell("migrate", "--store", url, "--dry-run")
    assert f"was brought from schema 0 to {newest}" in shell("migrate", "--store", url)
    assert "is up to date" in shell("migrate", "--store", url)
    old = PostgresStore(url)
    contract = Migration(newest + 1, "contract", newest + 1, "ALTER TABLE jobs ADD COLUMN more text")
    monkeypatch.setattr(schema, "migrations", lambda: (*first, contract))
    held = shell("migrate", "--store", url, code=1)
    assert f"held back  {newest + 1:04} contract" in held
    told = json.loads(shell("migrate", "--store", url, "--json", code=1))
    assert (told["schema"], told["held_back"]) == (newest, [f"{newest + 1:04} contract"])
    old.close()
    told = json.loads(shell("migrate", "--store", url, "--json"))
    assert (told["schema_before"], told["schema"], told["held_back"]) == (newest, newest + 1, [])


def test_move_says_what_it_did_and_what_not_to_do(shell: Shell, url: str, tmp_path: Path) -> None:
    path = tmp_path / "towpath.db"
    with closing(SqliteStore(path)) as store:
        fill(store, [job(1), job(2)])
    said = shell("move", "--from", f"sqlite:///{path}", "--to", url)
    for part in (
        "moved 2 jobs (2 QUEUED)",
        "is the same",
        f"towpath-server --store {shlex.quote(url)}",
        "Start no scheduler on it",
    ):
        assert part in said
    assert "holds a store already" in shell("move", "--from", f"sqlite:///{path}", "--to", url, code=1)
    told = json.loads(shell("move", "--from", url, "--to", f"sqlite:///{tmp_path / 'back.db'}", "--json"))
    assert (told["counts"]["jobs"], told["states"], told["from"]) == (2, {"QUEUED": 2}, url)
    with closing(SqliteStore(tmp_path / "back.db")) as store:
        assert set(store.load([1, 2])) == {1, 2}


def test_a_password_of_the_environment_moves_a_store_without_being_shown(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with closing(SqliteStore(tmp_path / "towpath.db")) as store:
        fill(store, [job(1, update_time=NOW)])
    monkeypatch.setenv("TOWPATH_SERVER_MOVE_TO", WITH_SECRET)
    assert "cannot be reached" in shell("move", "--from", f"sqlite:///{tmp_path / 'towpath.db'}", code=1)
