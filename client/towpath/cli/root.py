"""The root of the command line: global options anywhere, and every failure as one line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

WITH_VALUE = frozenset({"--server", "-s", "--token-file", "--tls-ca", "--tls-cert", "--tls-key"})
FLAGS = frozenset({"--json", "--insecure"})


ORDER = (
    *("train", "predict", "models", "submit"),
    *("jobs", "queues", "workers", "tokens", "quotas"),
    *("audit", "whoami", "stats", "doctor", "demo", "version"),
)


class RootGroup(TyperGroup):
    """Takes global options at any place, and turns exceptions into exit codes."""

    def list_commands(self, ctx: Any) -> list[str]:
        """What people do first comes first."""
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Moves the global options to the front, where the root command reads them."""
        return super().parse_args(ctx, hoist(args))

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; a failure becomes a line on standard error and an exit code."""
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
            return done
        except BrokenPipeError:
            # Whoever read this has seen enough (`| head`). What is left would fail again at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except typer.BadParameter as error:
            # The words of the library that checks the values for typer.
            error.message = error.message.removeprefix("Value error, ")
            raise
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, a person gets a line
            from towpath.cli.failures import report

            raise typer.Exit(report(error)) from None


def hoist(args: list[str]) -> list[str]:
    """The arguments with all global options in front. Refuses a token on the command line."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(args)
    for arg in waiting:
        name, separator, _ = arg.partition("=")
        if arg == "--":
            rest += [arg, *waiting]
        elif name == "--token":
            raise typer.BadParameter(
                "a token on the command line can be read by others (ps, shell history). "
                "Put it into a file and give --token-file FILE, or set TOWPATH_TOKEN.",
                param_hint="--token",
            )
        elif arg in FLAGS or (name in WITH_VALUE and separator):
            front.append(arg)
        elif arg in WITH_VALUE:
            front.append(arg)
            front.extend([following] if (following := next(waiting, None)) is not None else [])
        else:
            rest.append(arg)
    return front + rest
