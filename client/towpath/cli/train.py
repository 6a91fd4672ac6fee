"""`towpath train`: train a model on a table."""

from __future__ import annotations

from typing import Annotated

import typer

from towpath.cli.invocation import Invocation
from towpath.cli.names import Task
from towpath.cli.options import SubmitOptions, with_submit_options


@with_submit_options
def train(
    ctx: typer.Context,
    data: Annotated[
        str, typer.Argument(help="A CSV or Parquet file on the worker. @FILE sends a small one of this machine.")
    ],
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column to learn.")],
    options: SubmitOptions,
    model_type: Annotated[
        str,
        typer.Option(help="xgboost, random_forest, gradient_boosting, logistic_regression, linear or neural_network."),
    ] = "xgboost",
    task: Annotated[Task | None, typer.Option(case_sensitive=False, help="Default: by what the target holds.")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Learn from this column. Repeatable. Default: all."),
    ] = None,
    hyper: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A hyperparameter, as max_depth=8. Repeatable."),
    ] = None,
    test_size: Annotated[float | None, typer.Option(help="Share of the rows kept to test. Default: 0.2.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Makes it repeatable. Default: 42.")] = None,
    name: Annotated[str, typer.Option(help="The model's name. Default: target and model type.")] = "",
    early_stopping: Annotated[
        int | None, typer.Option(min=1, metavar="ROUNDS", help="Stop when so many rounds brought nothing.")
    ] = None,
    upload: Annotated[bool, typer.Option("--upload", help="DATA is a file of this machine; send it along.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch it live until it is done.")] = True,
) -> None:
    """Train a model on a table that lies on a worker."""
    from towpath.cli import following, parsing
    from towpath.cli.data import source

    invocation = Invocation.of(ctx)
    hyperparameters = parsing.params(hyper or (), "--hyper")
    submit_options = options.arguments()
    with invocation.client() as client:
        handle = client.train(
            source(data, upload=upload),
            target,
            model_type=model_type,
            task_type=task and task.value,
            features=feature or None,
            hyperparameters=hyperparameters or None,
            test_size=test_size,
            seed=seed,
            name=name,
            early_stopping_rounds=early_stopping,
            **submit_options,
        )
        following.submitted(handle, wait=wait, as_json=invocation.json)
