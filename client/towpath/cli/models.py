"""`towpath models`: which models lie where."""

from __future__ import annotations

from typing import Annotated

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation
from towpath.cli.names import Task


def models(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Only names that begin with this.")] = "",
    model_type: Annotated[str, typer.Option(help="Only of this type, such as xgboost.")] = "",
    task: Annotated[Task | None, typer.Option(case_sensitive=False, help="Only for this task.")] = None,
    worker: Annotated[str, typer.Option(help="Only on this worker.")] = "",
) -> None:
    """List the models on your workers, the newest first."""
    from towpath.cli import results

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        found = client.models(name_prefix=name, model_type=model_type, task_type=task and task.value, worker_id=worker)
    if invocation.json:
        output.documents("models", found)
    else:
        results.models(found)
