"""`towpath-server`: start a scheduler, or look after its store."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from towpath_server import log, store_url
from towpath_server.settings import ServerSettings, Settings
from towpath_server.store.base import StoreRefused
from towpath_server.upkeep_settings import (
    BackupSettings,
    MigrateSettings,
    MoveSettings,
    NewTokenSettings,
    RestoreSettings,
    Unfinished,
)

SettingsT = TypeVar("SettingsT", bound=ServerSettings)
StoreSettingsT = TypeVar(
    "StoreSettingsT", BackupSettings, RestoreSettings, MigrateSettings, MoveSettings, NewTokenSettings
)


def main() -> None:
    """Do what the words say; a scheduler runs until SIGTERM or Ctrl-C, and a second one ends it at once."""
    if "--version" in sys.argv[1:]:
        print(f"towpath-server {importlib.metadata.version('towpath')}")
        return
    word, *others = sys.argv[1:] or [""]
    # What each of them imports takes longer than to say that a word is wrong.
    if word == "backup":
        wanted = _settings(BackupSettings, others)
        from towpath_server.upkeep import backup

        _upkeep(backup, wanted)
    elif word == "restore":
        put_back = _settings(RestoreSettings, others)
        from towpath_server.upkeep import restore

        _upkeep(restore, put_back)
    elif word == "migrate":
        brought = _settings(MigrateSettings, others)
        from towpath_server.transfer import migrate

        _upkeep(migrate, brought)
    elif word == "move":
        moved = _settings(MoveSettings, others)
        from towpath_server.transfer import move

        _upkeep(move, moved)
    elif word == "new-token":
        lost = _settings(NewTokenSettings, others)
        from towpath_server.new_token import new_token

        log.to_stderr("warning", as_json=False)
        _upkeep(lambda settings, on_progress: new_token(settings), lost)
    elif word == "tls-init":
        # It needs a library that a scheduler without TLS does not wait for.
        from towpath_server.tls_init import TlsInitRefused, TlsInitSettings, tls_init

        certified = _settings(TlsInitSettings, others)
        try:
            log.say(tls_init(certified))
        except TlsInitRefused as error:
            _refuse(str(error), 1)
    else:
        _serve(_settings(Settings, sys.argv[1:]))


def _settings(kind: type[SettingsT], words: list[str]) -> SettingsT:
    if any(store_url.holds_password(word) for word in words):
        # It is too late for this one, but not for the next.
        _refuse(
            "the command line holds a password, and everybody on this machine can read that: change the password, "
            f"leave it out of the address, and {store_url.ELSEWHERE}",
            2,
        )
    try:
        return CliApp.run(kind, cli_args=words)
    except (ValidationError, SettingsError) as error:
        _refuse(_words(error), 2)


def _upkeep(carry_out: Callable[[StoreSettingsT, Callable[[int, int], None]], str], settings: StoreSettingsT) -> None:
    shown = sys.stderr.isatty()

    def on_progress(done: int, pages: int) -> None:
        print(f"\r{100 * done // max(pages, 1)} % ", end="" if done < pages else "\r", file=sys.stderr, flush=True)

    try:
        log.say(carry_out(settings, on_progress if shown else lambda done, pages: None))
    except Unfinished as error:
        log.say(str(error))
        sys.exit(1)
    except StoreRefused as error:
        _refuse(str(error), 1)
    except KeyboardInterrupt:
        _refuse("stopped; nothing was changed", 130)


def _serve(settings: Settings) -> None:
    from towpath_server import serving

    log.to_stderr(settings.log_level, as_json=settings.log_json)
    try:
        serving.run(settings)
    except (StoreRefused, serving.StartRefused) as error:
        _refuse(str(error), 1)
    except OSError as error:
        _refuse(f"cannot listen on {settings.listen}: {error}. Is another scheduler running there?", 1)


def _words(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    lines = []
    for one in error.errors():
        name = "-".join(str(part) for part in one["loc"]).replace("_", "-").removeprefix("move-")
        flag = f"--{name}" if name else ""
        lines.append(f"{flag} {one['msg'].removeprefix('Value error, ')}".strip())
    return "\n".join(lines)


def _refuse(words: str, code: int) -> NoReturn:
    print("\n".join(map(log.visible, f"towpath-server: {words}".split("\n"))), file=sys.stderr)
    sys.exit(code)
