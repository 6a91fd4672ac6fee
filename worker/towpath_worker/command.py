"""`towpath-worker`: connects to a scheduler and runs its jobs on this machine."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import SecretStr, ValidationError

from towpath import settings as client
from towpath_worker import log, options, orphans, portable
from towpath_worker.process import StartFailed
from towpath_worker.refusals import Refused
from towpath_worker.runtime import Ready, run_worker
from towpath_worker.settings import WorkerSettings, load
from towpath_worker.state import JOB_LOG, StateFolderTaken

EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_TAKEN = 4

# The settings that are not called as their flag.
FLAGS = {"data_dirs": "data-dir", "labels": "label"}

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def refuse_token(given: str | None) -> None:
    """A token in argv can be read by everybody on the machine."""
    if given is not None:
        fail(
            "A token on the command line can be read by everybody on this machine: revoke that one "
            "(`towpath tokens revoke`). Give it in TOWPATH_TOKEN, or in a file that only you can read: --token-file."
        )


# The flags and the configuration file.
Given = tuple[dict[str, Any], Path | None]


def run(
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            "-s",
            metavar="HOST:PORT[,HOST:PORT]",
            help="The scheduler, or its replicas. [TOWPATH_ADDRESS]",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="What people call this worker; default: the host.")
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option("--slots", "--concurrency", "-c", help="Jobs at once; default: half of the cores, at most 4."),
    ] = None,
    inline_slots: Annotated[
        int | None,
        typer.Option("--inline-slots", help="In place of --slots where all job types are inline. Default 512."),
    ] = None,
    handlers: Annotated[
        list[str] | None,
        typer.Option("--handlers", metavar="MODULE", help="Python module with @handler functions. Again for more."),
    ] = None,
    data_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Folder whose tables jobs may read and write by path. Again for more. "
            "Without one, jobs see no file of this machine: tables come and go inline.",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option("--state-dir", metavar="DIR", help="Where models, results and this worker's id are kept."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Jobs can ask for it. Again for more.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="TYPE,...", help="Serve only these job types; default: all.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="File that holds the token. [TOWPATH_TOKEN_FILE]"),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Plain text also to other machines: the token can be read on the way.")
    ] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option("--tls-ca", metavar="FILE", help="PEM certificates to trust in place of the system's."),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="FILE", help="This worker's certificate, where the scheduler asks for one."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="The key of --tls-cert.")] = None,
    max_tasks_per_child: Annotated[
        int | None,
        typer.Option("--max-tasks-per-child", help="Jobs after which a child process is replaced. Default 10000."),
    ] = None,
    share: options.Share = None,
    max_memory: options.MaxMemory = None,
    max_cpu_time: options.MaxCpuTime = None,
    max_open_files: options.MaxOpenFiles = None,
    max_disk: options.MaxDisk = None,
    max_processes: options.MaxProcesses = None,
    max_table_bytes: options.MaxTableBytes = None,
    max_table_rows: options.MaxTableRows = None,
    max_table_columns: options.MaxTableColumns = None,
    max_table_cells: options.MaxTableCells = None,
    run_once: Annotated[bool, typer.Option("--run-once", help="Wait for one job, run it, and stop.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file with these settings.")
    ] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")] = None,
    token: Annotated[str | None, typer.Option("--token", hidden=True, callback=refuse_token)] = None,
) -> Given:
    """Run a scheduler's jobs on this machine. Nothing ever connects to it: the worker calls the scheduler.

    `towpath-worker join HOST:PORT` brings a machine in that was invited. The token is that of TOWPATH_TOKEN, of a file
    or the configuration file, what this worker got when it joined, or asked for. Every option can also be set as
    TOWPATH_WORKER_<NAME> in the environment. Ctrl-C or SIGTERM once: finish what runs, then stop; twice: give it back.
    """
    flags: dict[str, Any] = {
        "server": server,
        "name": name,
        "slots": slots,
        "inline_slots": inline_slots,
        "handlers": handlers,
        "data_dirs": data_dir,
        "state_dir": state_dir,
        "labels": label,
        "allow": ",".join(allow) if allow else None,
        "token_file": token_file,
        "insecure": insecure or None,
        "tls_ca": tls_ca,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "max_tasks_per_child": max_tasks_per_child,
        "share": share,
        "max_memory": max_memory,
        "max_cpu_time": max_cpu_time,
        "max_open_files": max_open_files,
        "max_disk": max_disk,
        "max_processes": max_processes,
        "max_table_bytes": max_table_bytes,
        "max_table_rows": max_table_rows,
        "max_table_columns": max_table_columns,
        "max_table_cells": max_table_cells,
        "run_once": run_once or None,
        "log_level": log_level,
    }
    return flags, config


def begin(settings: WorkerSettings) -> NoReturn:
    """Runs the worker; its end is the program's."""
    log.to_stderr(settings.log_level)
    try:
        code = run_loop(settings)
    except Refused as error:
        fail(str(error), EXIT_REFUSED)
    except StateFolderTaken as error:
        fail(str(error), EXIT_TAKEN)
    except (StartFailed, ValueError, OSError) as error:
        fail(str(error))
    raise typer.Exit(code)


@app.command()
@functools.wraps(run)
def start(**given: Any) -> None:
    """As `run` says, which has the options."""
    begin(with_token(read_settings(*run(**given))))


def run_loop(settings: WorkerSettings) -> int:
    """Runs the worker in an event loop of its own: uvloop's, where that is installed."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.run(serve(settings))
    import uvloop

    return uvloop.run(serve(settings))


async def serve(settings: WorkerSettings) -> int:
    """Runs the worker; the first signal drains it, the second releases what it runs."""
    orphans.adopt()
    stop, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        again = stop.is_set()
        (release if again else stop).set()
        say("Giving back what runs." if again else "Finishing what runs; once more to give it back.")

    for number in portable.stop_signals():
        try:
            loop.add_signal_handler(number, on_signal)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(on_signal))
    typer.echo(f"Connecting to the scheduler at {client.spoken(settings.server)} ...", err=True)
    return await run_worker(settings, stop=stop, release=release, on_ready=lambda ready: greet(settings, ready))


def say(words: str) -> None:
    """Print, though whoever read this may be gone: that must keep no program from starting or stopping well."""
    try:
        print("\n".join(map(log.visible, words.split("\n"))), flush=True)
    except OSError:
        # What could not be written would be tried again at the exit, and fail it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def greet(settings: WorkerSettings, ready: Ready) -> None:
    """Says what this worker is, and what to type next."""
    folders = ", ".join(map(str, settings.data_dirs)) or "none: only inline tables (--data-dir opens a folder)"
    lines = [
        f"Towpath worker {settings.name} ({ready.worker_id}) serves {client.spoken(settings.server)}",
        f"  job types    {', '.join(ready.job_types)}",
        f"  slots        {ready.slots}",
        f"  data         {folders}",
        f"  models       {settings.state_dir.expanduser().resolve() / 'models'}",
        f"  what ran     {settings.state_dir.expanduser().resolve() / JOB_LOG}",
        "Next, in another terminal:  towpath workers list   or   towpath train --help",
    ]
    say("\n".join(lines))


def read_settings(flags: dict[str, Any], config: Path | None, *, with_token: bool = True) -> WorkerSettings:
    """The settings; an error of the user ends the program with a sentence for each."""
    try:
        return load(flags, config, with_token=with_token)
    except ValidationError as error:
        fail("\n".join(f"{flag(one['loc'])}: {one['msg'].removeprefix('Value error, ')}" for one in error.errors()))
    except (ValueError, OSError) as error:
        fail(str(error))


def flag(place: tuple[int | str, ...]) -> str:
    """What a setting is called on the command line."""
    name, *rest = map(str, place)
    return ".".join(["--" + FLAGS.get(name, name.replace("_", "-")), *rest])


def with_token(settings: WorkerSettings) -> WorkerSettings:
    """The settings with a token; asks for it where somebody is there to answer."""
    if settings.token is not None:
        return settings
    if not sys.stdin.isatty():
        fail(
            "No token. Join with an invitation: towpath-worker join HOST:PORT. Or set TOWPATH_TOKEN, or name a file "
            "that holds it with --token-file."
        )
    try:
        given = client.checked(typer.prompt("Token", hide_input=True), "The token")
    except ValueError as error:
        fail(str(error))
    return settings.model_copy(update={"token": SecretStr(given)})


def fail(message: str, code: int = EXIT_USAGE) -> NoReturn:
    """Ends the program with a message on standard error."""
    typer.echo("\n".join(map(log.visible, f"towpath-worker: {message}".split("\n"))), err=True)
    raise typer.Exit(code)
