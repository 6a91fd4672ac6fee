"""Joining with an invitation: what is kept, when it is used, and how it is renewed. The scheduler is a real one."""

from __future__ import annotations

import asyncio
import errno
import io
import sys
import types
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.joined import client, invited, joining, works
from support.rpc_stage import Stage, stage
from support.stage import Hands
from towpath import Role, secret_files
from towpath_server.core.records import Role as ServerRole
from towpath_server.scheduler import Clock
from towpath_worker import credential, join, join_command
from towpath_worker.credential import CredentialUnusable
from towpath_worker.join import JoinRefused
from towpath_worker.settings import WorkerSettings, load


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOWPATH_TOKEN", "TOWPATH_TOKEN_FILE", "TOWPATH_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    # Whatever is installed here.
    monkeypatch.setitem(sys.modules, "keyring", None)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture(name="at")
async def _at(hands: Hands) -> AsyncIterator[Stage]:
    async with stage(clock=Clock(lambda: hands.now, lambda: hands.steady)) as one:
        yield one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o755)
    return made


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.glob("credential*")]


async def test_an_invitation_becomes_a_credential_in_a_private_file(at: Stage, folder: Path) -> None:
    joined = await joining(at, folder, await invited(at, folder, share="tenant"))
    file = credential.path(folder)
    assert [mode(one) for one in (folder, file)] == [0o700, 0o600]
    assert names(folder) == ["credential.json"]
    kept = credential.find(folder)
    assert kept is not None
    assert joined.token is not None
    assert kept.secret == joined.token.get_secret_value()
    assert kept.secret not in repr(kept) + repr(joined)
    assert kept.lifetime == 90 * 86_400
    async with client(at, kept.secret) as worker:
        me = await worker.whoami()
    assert (me.token_id, me.name, me.role, me.share) == (kept.token_id, "barge", Role.WORKER, "TENANT")


async def test_it_is_read_from_standard_input_where_nobody_can_be_asked(
    at: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = (await invited(at, folder)).read_text()
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{secret}more\n"))
    await joining(at, folder, None)
    assert credential.find(folder) is not None
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(JoinRefused, match="--token-file"):
        await joining(at, folder.with_name("other"), None)


def test_a_secret_in_argv_is_refused_and_not_repeated(folder: Path) -> None:
    secret = f"tow_{7:064x}"
    for args in (["127.0.0.1:1", secret], [secret], ["127.0.0.1:1", f"--token={secret}"]):
        result = CliRunner().invoke(join_command.app, ["--state-dir", str(folder), *args])
        assert result.exit_code == 2, result.output
        assert "tow_" not in result.output
        assert "revoke" in result.output
    assert not list(folder.iterdir())


async def test_what_is_wrong_with_an_invitation_is_said(at: Stage, folder: Path, hands: Hands) -> None:
    file = await invited(at, folder)
    await joining(at, folder, file)
    with pytest.raises(JoinRefused, match="used already, or is older than 5 minutes"):
        await joining(at, folder.with_name("other"), file)
    late = await invited(at, folder)
    hands.move(301)
    with pytest.raises(JoinRefused, match="used already, or is older than 5 minutes"):
        await joining(at, folder.with_name("other"), late)
    file.write_text(at.tokens[ServerRole.WORKER])
    with pytest.raises(JoinRefused, match="no invitation"):
        await joining(at, folder.with_name("other"), file)
    assert credential.find(folder.with_name("other")) is None


async def test_a_worker_that_has_joined_is_not_joined_again_unless_it_must(
    at: Stage, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await joining(at, folder, await invited(at, folder))
    first = credential.find(folder)
    assert first is not None
    unused = await invited(at, folder)
    with pytest.raises(JoinRefused, match=r"joined .* already"):
        await joining(at, folder, unused)
    await joining(at, folder, unused, force=True)
    second = credential.find(folder)
    assert second is not None
    assert second.token_id != first.token_id
    assert f"towpath tokens revoke {first.token_id}" in capfd.readouterr().err
    async with client(at) as admin:
        await admin.revoke_token(second.token_id)
    # What it has is of no use any more.
    await joining(at, folder, await invited(at, folder))
    third = credential.find(folder)
    assert third is not None
    assert third.token_id != second.token_id


async def test_a_credential_that_cannot_be_kept_is_named(at: Stage, folder: Path) -> None:
    (folder / "credential.json" / "in the way").mkdir(parents=True)
    file = await invited(at, folder)
    with pytest.raises(JoinRefused, match=r"tok_\w+ revoked") as caught:
        await joining(at, folder, file, force=True)
    assert "tow_" not in str(caught.value)
    assert names(folder) == ["credential.json"]


async def test_a_full_disk_is_noticed_before_the_invitation_is_used(
    at: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = await invited(at, folder)
    with monkeypatch.context() as patched:
        patched.setattr(secret_files, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            await joining(at, folder, file)
    assert names(folder) == []
    server = "127.0.0.1:1"
    with pytest.raises(JoinRefused, match=f"towpath doctor --server {server}` .* may still be good"):
        await joining(at, folder, file, server=server)
    await joining(at, folder, file)
    kept = credential.path(folder).read_text()
    assert kept == kept.strip() + "\n"


async def test_a_credential_goes_to_its_own_scheduler_alone(at: Stage, folder: Path) -> None:
    await joining(at, folder, await invited(at, folder))
    kept = credential.find(folder)
    assert kept is not None
    flags = {"state_dir": folder}
    found = load(flags)
    assert found.token is not None
    assert (found.server, found.token.get_secret_value()) == (at.address, kept.secret)
    with pytest.raises(CredentialUnusable, match="shows its credential to nobody else"):
        load({**flags, "server": f"{at.address},elsewhere:7070"})


async def test_the_scheduler_is_reached_later_as_it_was_when_the_worker_joined(at: Stage, folder: Path) -> None:
    settings = WorkerSettings(server=at.address, state_dir=folder, name="barge", insecure=True)
    await asyncio.to_thread(join.join, settings, await invited(at, folder), keyring=False, force=False)
    assert load({"state_dir": folder}).insecure
    kept = credential.find(folder)
    assert kept is not None
    with credential.keeping(folder) as keep:
        keep(replace(kept, insecure=False, tls={"tls_ca": folder / "ca.pem", "tls_key": folder / "key.pem"}))
    found = load({"state_dir": folder})
    assert (found.insecure, found.tls_ca, found.tls_key) == (False, folder / "ca.pem", folder / "key.pem")
    # Told otherwise, nothing of it counts.
    found = load({"state_dir": folder, "tls_ca": folder / "new.pem"})
    assert (found.tls_ca, found.tls_cert, found.tls_key) == (folder / "new.pem", None, None)


async def test_a_token_that_is_named_goes_first_and_the_user_s_own_last(
    at: Stage, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def token(**flags: Any) -> str:
        found = load({"state_dir": folder, **flags})
        assert found.token is not None
        return found.token.get_secret_value()

    own = tmp_path / "config" / "towpath" / "token"
    own.parent.mkdir(parents=True)
    own.write_text("own")
    assert token() == "own"
    await joining(at, folder, await invited(at, folder))
    kept = credential.find(folder)
    assert kept is not None
    assert token() == kept.secret
    named = tmp_path / "named"
    named.write_text("named")
    assert token(token_file=named, server="elsewhere:7070") == "named"
    monkeypatch.setenv("TOWPATH_TOKEN", "environment")
    assert token() == "environment"
    # Nor does its scheduler's address go with another token.
    assert load({"state_dir": folder}).server == "127.0.0.1:7070"


async def test_a_credential_that_others_can_read_or_that_is_damaged_is_not_used(at: Stage, folder: Path) -> None:
    await joining(at, folder, await invited(at, folder))
    file = folder / "credential.json"
    text = file.read_text()
    file.chmod(0o640)
    with pytest.raises(CredentialUnusable, match="chmod 600"):
        load({"state_dir": folder})
    file.chmod(0o600)
    for damaged in (text[:-5], text.replace("secret", "sacred"), "[]", text.replace('"tow_', '" tow_ ')):
        file.write_text(damaged)
        with pytest.raises((CredentialUnusable, ValueError)) as caught:
            load({"state_dir": folder})
        assert "tow_" not in str(caught.value)


async def test_the_keyring_keeps_the_secret_where_there_is_one(
    at: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JoinRefused, match="no keyring"):
        await joining(at, folder, await invited(at, folder), keyring=True)
    kept: dict[tuple[str, str], str] = {}
    ring = types.SimpleNamespace(
        get_keyring=lambda: types.SimpleNamespace(priority=5),
        set_password=lambda service, user, secret: kept.update({(service, user): secret}),
        get_password=lambda service, user: kept.get((service, user)),
    )
    monkeypatch.setitem(sys.modules, "keyring", ring)
    await joining(at, folder, await invited(at, folder), keyring=None)
    found = credential.find(folder)
    assert found is not None
    assert [found.secret] == list(kept.values())
    assert await works(at, found.secret)
    assert found.secret not in (folder / "credential.json").read_text()
    kept.clear()
    with pytest.raises(CredentialUnusable, match="keyring does not have it"):
        credential.find(folder)
    await joining(at, folder, await invited(at, folder), force=True)
    assert not kept
    assert "tow_" in (folder / "credential.json").read_text()
