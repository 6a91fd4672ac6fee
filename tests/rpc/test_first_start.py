"""The very first start: the admin's token lies where it can be read before the store knows of it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from towpath_server import app
from towpath_server.inprocess import embedded
from towpath_server.settings import Settings
from towpath_server.store.base import StoreRefused


def settings(folder: Path, port: int = 0, **others: object) -> Settings:
    return Settings.model_validate(
        {
            "listen": f"127.0.0.1:{port}",
            "store": f"sqlite:///{folder / 'towpath.db'}",
            "config_dir": folder / "config",
            **others,
        }
    )


async def starts_with_a_token(folder: Path) -> None:
    running = await app.start(settings(folder))
    try:
        secret = running.token_file.read_text(encoding="utf-8").strip()
        assert running.scheduler.access.authenticate(secret).user == "admin"
    finally:
        await running.stop()


async def test_a_start_on_a_taken_port_uses_up_no_first_token(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="is taken"):
        await app.start(settings(tmp_path, taken.getsockname()[1]))
    await starts_with_a_token(tmp_path)


async def test_a_start_that_cannot_write_the_token_says_so_and_makes_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(app.StartRefused, match="--config-dir"):
        await app.start(settings(tmp_path, config_dir=tmp_path / "file"))
    await starts_with_a_token(tmp_path)


async def test_a_store_that_was_embedded_first_still_gets_its_admin(tmp_path: Path) -> None:
    with embedded(f"sqlite:///{tmp_path / 'towpath.db'}", worker=False):
        pass
    await starts_with_a_token(tmp_path)


async def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(StoreRefused, match="Choose another path"):
        await app.start(settings(tmp_path, store=f"sqlite:///{tmp_path / 'file' / 'towpath.db'}"))
    with pytest.raises(app.StartRefused, match="--tls-cert"):
        await app.start(settings(tmp_path, tls_cert=tmp_path / "no", tls_key=tmp_path / "no"))
