"""`towpath-server`: start a scheduler, or look after its store."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import structlog
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from towpath_server import app, upkeep
from towpath_server.settings import BackupSettings, RestoreSettings, Settings, config_folder
from towpath_server.store.base import StoreRefused
from towpath_server.store.snapshot import OnProgress

SettingsT = TypeVar("SettingsT", Settings, BackupSettings, RestoreSettings)

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def main() -> None:
    """Do what the words say; a scheduler runs until SIGTERM or Ctrl-C, and a second one ends it at once."""
    if "--version" in sys.argv[1:]:
        print(f"towpath-server {app.version()}")
        return
    word, *others = sys.argv[1:] or [""]
    if word == "backup":
        _upkeep(upkeep.backup, _settings(BackupSettings, others))
    elif word == "restore":
        _upkeep(upkeep.restore, _settings(RestoreSettings, others))
    else:
        _serve(_settings(Settings, sys.argv[1:]))


def _settings(kind: type[SettingsT], words: list[str]) -> SettingsT:
    try:
        return CliApp.run(kind, cli_args=words)
    except (ValidationError, SettingsError) as error:
        _refuse(_words(error), 2)


def _upkeep(carry_out: Callable[[SettingsT, OnProgress], str], settings: SettingsT) -> None:
    shown = sys.stderr.isatty()

    def on_progress(done: int, pages: int) -> None:
        print(f"\r{100 * done // max(pages, 1)} % ", end="" if done < pages else "\r", file=sys.stderr, flush=True)

    try:
        say(carry_out(settings, on_progress if shown else lambda done, pages: None))
    except StoreRefused as error:
        _refuse(str(error), 1)
    except KeyboardInterrupt:
        _refuse("stopped; nothing was changed", 130)


def _serve(settings: Settings) -> None:
    _log_to_stderr(settings)
    try:
        _run(settings)
    except (StoreRefused, app.StartRefused) as error:
        _refuse(str(error), 1)
    except OSError as error:
        _refuse(f"cannot listen on {settings.listen}: {error}. Is another scheduler running there?", 1)


def _run(settings: Settings) -> None:
    if sys.platform == "win32":
        asyncio.run(serve(settings))
        return
    import uvloop

    uvloop.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    _on_signals(stop)
    running = await app.start(settings)
    _greet(running)
    await stop.wait()
    say("towpath-server is stopping: what was acknowledged is on disk.")
    await running.stop()


def say(words: str) -> None:
    """Print, though whoever read this may be gone: that must keep no program from starting or stopping well."""
    try:
        print(words, flush=True)
    except OSError:
        # What could not be written would be tried again at the exit, and fail it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stop.is_set():
            sys.exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, told)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(told))


def _greet(running: app.App) -> None:
    address = running.address
    lines = [f"towpath-server listens on {address}", f"  store   {running.settings.store}"]
    if running.secret is not None:
        lines.append(f"  token   written to {running.token_file} (the first admin's; shown nowhere else)")
    elif running.token_file.exists():
        lines.append(f"  token   in {running.token_file}")
    if running.settings.config_dir != config_folder():
        lines.append(f"  first   export TOWPATH_TOKEN_FILE={running.token_file}")
    lines.append(f"  next    towpath-worker --server {address} --data-dir .")
    lines.append(f"          towpath --server {address} stats")
    say("\n".join(lines))


def _log_to_stderr(settings: Settings) -> None:
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.log_level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


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
