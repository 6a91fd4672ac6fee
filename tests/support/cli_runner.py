"""Runs `towpath` inside the test's process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner, Result

from support import fake_cli_server as fake
from towpath.cli.app import app

Run = Callable[..., Result]


def runner(address: str, token_file: Path) -> Run:
    """`towpath` with a valid token against that scheduler; no secret may ever be printed unasked."""
    token_file.write_text(fake.TOKEN + "\n")
    environment = {
        "TOWPATH_ADDRESS": address,
        "TOWPATH_TOKEN_FILE": str(token_file),
        "TOWPATH_TOKEN": None,
        "TOWPATH_DEBUG": None,
    }

    def call(*args: str, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(app, list(args), input=stdin, env=environment)
        assert fake.TOKEN not in result.output
        assert "Traceback" not in result.stderr
        return result

    return call
