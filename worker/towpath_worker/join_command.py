"""The command line of `towpath-worker join`: its own options, and all those with which a worker runs."""

from __future__ import annotations

import functools
import inspect
import typing
from typing import Any

import typer

from towpath import settings as client
from towpath_worker import command, join
from towpath_worker.state import StateFolderTaken

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def joining(
    ctx: typer.Context,
    server: join.Server,
    token_file: join.TokenFile = None,
    keyring: join.Keyring = None,
    force: join.Force = False,
    **given: Any,
) -> None:
    """Join a scheduler with the invitation that `towpath workers invite` gave, then run its jobs on this machine.

    The invitation's secret is asked for, read from standard input, or from a file. It is used once, within 5 minutes:
    what this machine gets for it is kept for its next starts, as `towpath-worker`, and renewed by itself.
    """
    try:
        join.check_words(server, ctx.args)
        address = client.address(server)
        settings = command.read_settings(*command.run(server=address, **given), with_token=False)
        joined = join.join(settings, token_file, keyring=keyring, force=force)
    except join.JoinRefused as error:
        command.fail(str(error), command.EXIT_REFUSED)
    except StateFolderTaken as error:
        command.fail(str(error), command.EXIT_TAKEN)
    except (ValueError, OSError) as error:
        command.fail(str(error))
    command.begin(joined)


def _with_run_options() -> Any:
    own = inspect.signature(joining).parameters
    hints = typing.get_type_hints(joining, include_extras=True)
    more = typing.get_type_hints(command.run, include_extras=True)
    kept = [one.replace(annotation=hints[name]) for name, one in own.items() if name != "given"]
    added = [
        one.replace(annotation=more[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in inspect.signature(command.run).parameters.items()
        if name not in own
    ]

    @functools.wraps(joining)
    def run(**given: Any) -> None:
        joining(**given)

    del run.__wrapped__
    parameters = [*kept, *added]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


app.command(context_settings={"allow_extra_args": True})(_with_run_options())
