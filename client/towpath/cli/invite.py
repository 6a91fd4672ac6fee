"""`towpath workers invite`: a machine may join within five minutes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation
from towpath.cli.names import Share
from towpath.cli.tokens import Output, place


def invite(
    ctx: typer.Context,
    user: Annotated[str, typer.Option(help="Whose jobs it will run. Default: yours.")] = "",
    share: Annotated[
        Share, typer.Option(case_sensitive=False, help="Whose jobs it may run: the user's, or the tenant's.")
    ] = Share.USER,
    name: Annotated[str, typer.Option(help="The invitation's name, until the machine says its own.")] = "worker",
    ttl: Annotated[
        str, typer.Option(metavar="DURATION", help="How long its credential lives unrenewed. Default: 90d.")
    ] = "",
    out: Output = None,
) -> None:
    """Let a machine join as a worker: a secret to be used once, within 5 minutes."""
    from towpath import settings
    from towpath.cli import parsing, times

    invocation = Invocation.of(ctx)
    seconds = parsing.seconds(ttl, "--ttl") if ttl else None
    with place(out) as put, invocation.client() as client:
        token, secret = client.invite_worker(name, user=user, share=share.value, credential_ttl=seconds)
        put(f"{secret}\n")
        address = client.address
    command = _command(invocation, address, share, out)
    if invocation.json:
        shown = {"file": str(out)} if out else {"secret": secret}
        output.document({"token": token.to_dict(), "command": command, **shown})
        return
    output.note(f"A worker of {token.user} may join until {times.moment(token.expire_time)}. On its machine type")
    output.note(f"  {command}")
    if any(map(settings.is_loopback, settings.addresses(address))):
        output.note("with this machine's own address where that is another machine,")
    if out:
        output.note("and bring the file there: nobody else may read it, and it is used once.")
        output.line(str(out))
    else:
        output.note("and give it this secret when it asks. It is shown this once:")
        output.line(secret)


def _command(invocation: Invocation, address: str, share: Share, out: Path | None) -> str:
    words = ["towpath-worker", "join", address]
    words += ["--share", "tenant"] if share is Share.TENANT else []
    words += ["--token-file", str(out)] if out else []
    words += ["--insecure"] if invocation.insecure else []
    words += ["--tls-ca", str(invocation.tls_ca)] if invocation.tls_ca else []
    # Each machine has a certificate of its own.
    words += ["--tls-cert", "ITS.pem", "--tls-key", "ITS-key.pem"] if invocation.tls_cert else []
    return shlex.join(words)
