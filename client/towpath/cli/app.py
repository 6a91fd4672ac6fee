"""All commands of `towpath`, put together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from towpath.cli import audit, doctor, jobs, models, predict, queues, quotas, status, submit, tokens, train, workers
from towpath.cli.demo import command as demo
from towpath.cli.exit_codes import epilog
from towpath.cli.invocation import Invocation
from towpath.cli.root import RootGroup

app = typer.Typer(
    cls=RootGroup,
    no_args_is_help=True,
    # Plain help: rich costs 0.3 s, and errors are one line, not a box.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog(),
)


@app.callback()
def towpath(
    ctx: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            "-s",
            metavar="HOST:PORT[,HOST:PORT]",
            envvar="TOWPATH_ADDRESS",
            help="The scheduler, or its replicas.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file that holds the token. Else TOWPATH_TOKEN, or your config folder."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Plain text also to other machines.")] = False,
    tls_ca: Annotated[
        Path | None, typer.Option("--tls-ca", metavar="FILE", help="The authority of the scheduler's certificate.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Your certificate, where it asks for one.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="The key of your certificate.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one a line for a stream.")] = False,
) -> None:
    """Towpath runs your jobs on your own machines.

    The options below may stand anywhere on the line. `towpath demo` shows everything at work.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    ctx.obj = Invocation(server, token_file, insecure, tls_ca, tls_cert, tls_key, json)


app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("models")(models.models)
app.command("submit")(submit.submit)
app.add_typer(jobs.app, name="jobs")
app.add_typer(queues.app, name="queues")
app.add_typer(workers.app, name="workers")
app.add_typer(tokens.app, name="tokens")
app.add_typer(quotas.app, name="quotas")
app.command("audit")(audit.audit)
app.command("whoami")(status.whoami)
app.command("doctor")(doctor.doctor)
app.command("stats")(status.stats)
app.command("demo")(demo.demo)
app.command("version")(status.version)
