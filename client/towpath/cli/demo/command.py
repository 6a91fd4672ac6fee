"""`towpath demo`: the main job from an empty folder to predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towpath.cli.invocation import Invocation


def demo(
    ctx: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="FOLDER", help="Work here, and keep it. Default: a new temporary folder."),
    ] = None,
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--no-keep", help="Leave both running until Ctrl-C. Default: on a terminal."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1000, help="Take only so many flights.")] = 336_776,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The scheduler's port. Default: a free one.")] = 0,
) -> None:
    """See it all at work on 336,776 real flights.

    Starts a scheduler and a worker, trains, and predicts. Everything stays in one folder; nothing of yours is touched.
    """
    from towpath.cli.demo import run
    from towpath.cli.output import on_terminal

    as_json = Invocation.of(ctx).json
    stay = keep if keep is not None else on_terminal() and not as_json
    raise typer.Exit(run.run(folder, port=port, rows=rows, keep=stay, as_json=as_json))
