"""The command line, `towpath`."""

from __future__ import annotations


def main() -> None:
    """Runs the command line of this process and exits with one of `towpath.cli.exit_codes`."""
    from towpath.cli.app import app

    app(prog_name="towpath")
