"""The first admin's token on disk: what two schedulers that begin at once make of it."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from towpath_server import token_file


def kept(folder: Path) -> dict[str, str]:
    return {(path.name.partition(".")[2] and "aside") or path.name: path.read_text() for path in folder.iterdir()}


def test_it_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    token_file.write(tmp_path / "new" / "token", "one")
    assert stat.S_IMODE((tmp_path / "new" / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_one_that_was_there_is_kept_and_put_back(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token_file.write(path, "old")
    written = token_file.write(path, "new")
    assert kept(tmp_path) == {"token": "new\n", "aside": "old\n"}
    written.withdraw("new")
    assert kept(tmp_path) == {"token": "old\n"}


def test_one_that_was_put_aside_meanwhile_is_withdrawn_too(tmp_path: Path) -> None:
    path = tmp_path / "token"
    loser = token_file.write(path, "void")
    token_file.write(path, "right")
    loser.withdraw("void")
    assert kept(tmp_path) == {"token": "right\n"}
    loser.withdraw("void")
    assert kept(tmp_path) == {"token": "right\n"}


def test_of_many_at_once_the_right_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for round_number in range(20):
        secrets = [f"{round_number}-{number}" for number in range(4)]
        with ThreadPoolExecutor(4) as threads:
            written = list(threads.map(lambda secret: token_file.write(path, secret), secrets))
        # All but one are void.
        for one, secret in list(zip(written, secrets, strict=True))[1:]:
            one.withdraw(secret)
        assert path.read_text() == f"{secrets[0]}\n"
        assert [file.name for file in tmp_path.iterdir()] == ["token"]
        path.unlink()


def test_one_of_an_earlier_time_stays_aside(tmp_path: Path) -> None:
    path = tmp_path / "token"
    (tmp_path / f"token.{10**18}000000").write_text("years ago\n", encoding="utf-8")
    (tmp_path / "token.mine").write_text("of a user\n", encoding="utf-8")
    token_file.write(path, "void").withdraw("void")
    assert not path.exists()


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(OSError, match="file"):
        token_file.write(tmp_path / "file" / "token", "one")
