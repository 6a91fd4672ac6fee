"""The command line as a process of its own: what it imports, Ctrl-C, terminals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from support import fake_cli_server as fake
from towpath.cli.app import app
from towpath.cli.exit_codes import MEANINGS, ExitCode

CALL = "from towpath.cli import main; main()"
HEAVY = ("grpc", "google", "pandas", "numpy", "pyarrow", "rich", "platformdirs", "tenacity")

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of POSIX")


@pytest.fixture
def scheduler() -> Iterator[tuple[str, fake.Jobs]]:
    with fake.serving() as found:
        yield found


def environment(address: str = "", **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOWPATH_", "NO_COLOR"))}
    return (
        kept | {"TOWPATH_ADDRESS": address, "TOWPATH_TOKEN": fake.TOKEN, "PYTHONPATH": os.pathsep.join(sys.path)} | more
    )


def test_help_imports_nothing_heavy() -> None:
    check = "import sys; from towpath.cli.app import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, env=environment()
    )
    modules = {name.partition(".")[0] for name in result.stdout.splitlines()[-1].split()}
    assert not modules & set(HEAVY)


def test_help_names_every_command_and_exit_code() -> None:
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    for line in (
        "train predict models submit jobs queues workers tokens whoami stats demo version",
        "--server --token-file --insecure --tls-ca --json TOWPATH_ADDRESS",
    ):
        assert all(word in help_text for word in line.split())
    for code, meaning in MEANINGS.items():
        assert f"{code:>3}  {meaning}" in help_text
    assert set(MEANINGS) == set(ExitCode)


def test_every_command_has_help() -> None:
    expected = {
        "jobs": "list get watch logs cancel pause resume retry explain attempts delete",
        "queues": "list peek pause resume",
        "workers": "list get drain remove invite",
        "tokens": "create list revoke rotate",
        "quotas": "list set delete",
    }
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        verbs = getattr(command, "commands", {})
        assert set(verbs) == set(expected.get(name, "").split())
        for path in ([name], *([name, verb] for verb in verbs)):
            result = CliRunner().invoke(app, [*path, "--help"])
            assert result.exit_code == ExitCode.OK
            assert result.stdout.startswith("Usage: ")


@posix
def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(scheduler: tuple[str, fake.Jobs]) -> None:
    address, jobs = scheduler
    with subprocess.Popen(
        [sys.executable, "-c", CALL, "submit", "wait", "--wait"],
        env=environment(address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        # Said once the watch stands.
        while not process.stderr.readline().endswith("QUEUED\n"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    (job_id,) = jobs.jobs
    assert process.returncode == ExitCode.INTERRUPTED
    assert said.splitlines() == [
        "",
        f"{job_id} goes on. Watch it: towpath jobs watch {job_id}",
        f"Cancel it: towpath jobs cancel {job_id}",
    ]
    assert fake.FINAL.count(jobs.jobs[job_id].state) == 0


@posix
def test_colours_only_on_a_terminal(scheduler: tuple[str, fake.Jobs]) -> None:
    address, _ = scheduler
    submit = [sys.executable, "-c", CALL, "submit", "fail"]
    subprocess.run([*submit, "--wait"], env=environment(address), capture_output=True, check=False)
    shown = on_terminal(["jobs", "list"], environment(address, TERM="xterm"))
    assert "\x1b[31m" in shown
    assert "FAILED" in shown
    assert "\x1b[31m" not in on_terminal(["jobs", "list"], environment(address, TERM="xterm", NO_COLOR="1"))
    assert "\x1b" not in on_terminal(["jobs", "list"], environment(address, TERM="dumb"))


@posix
def test_a_log_cannot_act_on_the_terminal(scheduler: tuple[str, fake.Jobs]) -> None:
    address, _ = scheduler
    submit = [sys.executable, "-c", CALL, "submit", "echo"]
    subprocess.run(submit, env=environment(address), capture_output=True, check=True)
    shown = on_terminal(["jobs", "logs", "job_0000000000001"], environment(address, TERM="xterm"))
    assert "\x1b" not in shown
    assert r"\x1b[2Jsecond" in shown


def on_terminal(args: list[str], env: dict[str, str]) -> str:
    """What `towpath` writes to a pseudo terminal."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", CALL, *args]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        parts = []
        while part := read(ours):
            parts.append(part)
    os.close(ours)
    assert process.returncode == ExitCode.OK, b"".join(parts)
    return b"".join(parts).decode()


def read(terminal: int) -> bytes:
    """The next bytes; none at the end, which Linux tells by an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def test_a_closed_pipe_is_no_traceback(scheduler: tuple[str, fake.Jobs], tmp_path: Path) -> None:
    address, _ = scheduler
    result = subprocess.run(
        f'"{sys.executable}" -c "{CALL}" jobs logs job_zzzzzzzzzzzzz --help | true',
        shell=True,
        env=environment(address),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in result.stderr


@posix
def test_a_reader_that_has_seen_enough_is_no_failure(scheduler: tuple[str, fake.Jobs]) -> None:
    words = [sys.executable, "-c", CALL, "whoami"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(words, env=environment(scheduler[0]), stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
