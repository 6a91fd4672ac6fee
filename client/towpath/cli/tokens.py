"""`towpath tokens`: make and revoke tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation
from towpath.cli.names import Role

if TYPE_CHECKING:
    from towpath.fleet import Token

app = typer.Typer(help="Make and revoke tokens.", no_args_is_help=True)


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[Role, typer.Option(case_sensitive=False, help="What it may do.")],
    user: Annotated[str, typer.Option(help="Whose it is. Default: yours.")] = "",
    ttl: Annotated[str, typer.Option(metavar="DURATION", help="As 12h or 30d. Default: for ever.")] = "",
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the secret to this new file (0600).")
    ] = None,
) -> None:
    """Make a token. Its secret is shown this once."""
    from towpath.cli import parsing

    invocation = Invocation.of(ctx)
    seconds = parsing.seconds(ttl, "--ttl") if ttl else None
    # Opened first: a token whose secret is nowhere would have to be revoked.
    out = out.expanduser() if out else None
    handle = _new_file(out) if out else None
    try:
        with invocation.client() as client:
            token, secret = client.create_token(name, role.value, user=user, ttl=seconds)
        if handle is not None:
            os.write(handle, f"{secret}\n".encode())
    except BaseException:
        if out is not None:
            out.unlink(missing_ok=True)
        raise
    finally:
        if handle is not None:
            os.close(handle)
    if invocation.json:
        output.document({"token": token.to_dict()} | ({} if out else {"secret": secret}))
    elif out:
        output.line(f"{token.token_id} written to {out}")
    else:
        output.note(f"{token.token_id} for {token.user}, {role.value}. The secret is shown this once:")
        output.line(secret)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the tokens, without their secrets."""
    from towpath.cli import times

    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        tokens = list(client.tokens())
    if invocation.json:
        output.documents("tokens", tokens)
        return
    output.table(
        ("id", "name", "user", "role", "created", "expires", "revoked"),
        [
            (
                token.token_id,
                token.name,
                token.user,
                token.role.lower(),
                times.moment(token.create_time),
                times.moment(token.expire_time),
                times.moment(token.revoke_time),
            )
            for token in tokens
        ],
        empty="No tokens.",
    )


@app.command()
def revoke(ctx: typer.Context, token: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="tok_...")]) -> None:
    """Make a token void at once."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        found: Token = client.revoke_token(token)
    if invocation.json:
        output.document(found)
    else:
        output.line(f"{found.token_id} ({found.name}) revoked")


def _new_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
