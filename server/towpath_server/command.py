"""`towpath-server`: start a scheduler, or look after its store."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from towpath_server import log
from towpath_server.settings import BackupSettings, RestoreSettings, Settings
from towpath_server.store.base import StoreRefused

SettingsT = TypeVar("SettingsT", Settings, BackupSettings, RestoreSettings)
FileSettingsT = TypeVar("FileSettingsT", BackupSettings, RestoreSettings)


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
    else:
        _serve(_settings(Settings, sys.argv[1:]))


def _settings(kind: type[SettingsT], words: list[str]) -> SettingsT:
    try:
        return CliApp.run(kind, cli_args=words)
    except (ValidationError, SettingsError) as error:
        _refuse(_words(error), 2)


def _upkeep(carry_out: Callable[[FileSettingsT, Callable[[int, int], None]], str], settings: FileSettingsT) -> None:
    shown = sys.stderr.isatty()

    def on_progress(done: int, pages: int) -> None:
        print(f"\r{100 * done // max(pages, 1)} % ", end="" if done < pages else "\r", file=sys.stderr, flush=True)

    try:
        log.say(carry_out(settings, on_progress if shown else lambda done, pages: None))
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
        flag = "--" + "-".join(str(part) for part in one["loc"]).replace("_", "-") if one["loc"] else ""
        lines.append(f"{flag} {one['msg'].removeprefix('Value error, ')}".strip())
    return "\n".join(lines)


def _refuse(words: str, code: int) -> NoReturn:
    print(f"towpath-server: {words}", file=sys.stderr)
    sys.exit(code)
