"""`towpath submit`: submit a job of any type."""

from __future__ import annotations

from typing import Annotated

import typer

from towpath.cli.invocation import Invocation
from towpath.cli.options import SubmitOptions, with_submit_options


@with_submit_options
def submit(
    ctx: typer.Context,
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="The name that the handler was registered under.")],
    options: SubmitOptions,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=JSON", help="A parameter; what is no JSON is text. Repeatable."),
    ] = None,
    params_json: Annotated[str, typer.Option(metavar="JSON|@FILE|-", help="All parameters as one JSON object.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch it live and print its result.")] = False,
) -> None:
    """Submit a job of any type, and print its id."""
    from towpath.cli import following, parsing

    invocation = Invocation.of(ctx)
    params = parsing.json_object(params_json, "--params-json") if params_json else {}
    params |= parsing.params(param or (), "--param")
    submit_options = options.arguments()
    with invocation.client() as client:
        handle = client.submit(job_type, params, **submit_options)
        following.submitted(handle, wait=wait, as_json=invocation.json)
