"""`towpath predict`: predict with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towpath.cli import output
from towpath.cli.exit_codes import ExitCode
from towpath.cli.invocation import Invocation
from towpath.cli.options import SubmitOptions, with_submit_options


@with_submit_options
def predict(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A model's id, NAME (its newest version) or NAME@VERSION.")],
    data: Annotated[
        str, typer.Argument(help="A CSV or Parquet file on the worker. @FILE sends a small one of this machine.")
    ],
    options: SubmitOptions,
    probabilities: Annotated[bool, typer.Option("--probabilities", "-p", help="Each class's probability too.")] = False,
    output_path: Annotated[
        str, typer.Option("--output", "-o", metavar="PATH", help="Write them to this file on the worker.")
    ] = "",
    save: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write them to this new file here.")] = None,
    upload: Annotated[bool, typer.Option("--upload", help="DATA is a file of this machine; send it along.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the predictions.")] = True,
) -> None:
    """Predict with a model, on the worker that holds it."""
    from towpath.cli import data as tables
    from towpath.cli import following

    invocation = Invocation.of(ctx)
    submit_options = options.arguments()
    if save is not None:
        save = save.expanduser()
        _check(save, output_path, wait=wait)
    with invocation.client() as client:
        handle = client.predict(
            model,
            tables.source(data, upload=upload),
            probabilities=probabilities,
            output_path=output_path,
            **submit_options,
        )
        job = following.submitted(handle, wait=wait, as_json=invocation.json)
    if save is not None and job is not None:
        if job.result.output:
            output.note(f"Too many predictions for a message: they lie at {job.result.output.path} on the worker.")
            raise typer.Exit(ExitCode.LOCAL)
        tables.write_csv(save, job.result.rows)
        output.note(f"{job.result.row_count:,} predictions written to {save}")


def _check(save: Path, output_path: str, *, wait: bool) -> None:
    """Refuses before the job runs what would fail after it."""
    problem = ""
    if save.suffix.lower() != ".csv":
        problem = "must end in .csv; --output writes Parquet on the worker."
    elif output_path:
        problem = "and --output exclude each other."
    elif not wait:
        problem = "and --no-wait exclude each other."
    elif save.exists():
        problem = f"never overwrites a file: {save} is there already."
    elif not save.parent.is_dir():
        problem = f"needs a folder that is there: {save.parent} is not."
    if problem:
        raise typer.BadParameter(problem, param_hint="--save")
