"""`towpath tokens`: make, rotate and revoke tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from towpath.cli import output
from towpath.cli.invocation import Invocation
from towpath.cli.names import Role, Share

if TYPE_CHECKING:
    from towpath.fleet import Token

app = typer.Typer(help="Make, rotate and revoke tokens.", no_args_is_help=True)

Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the secret to this new file (0600).")
]


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[Role, typer.Option(case_sensitive=False, help="What it may do.")],
    user: Annotated[str, typer.Option(help="Whose it is. Default: yours.")] = "",
    ttl: Annotated[str, typer.Option(metavar="DURATION", help="As 12h or 30d. Default: for ever.")] = "",
    tenant: Annotated[str, typer.Option(help="Its tenant, where you run the scheduler. Default: yours.")] = "",
    share: Annotated[
        Share, typer.Option(case_sensitive=False, help="Whose jobs its workers may run: the user's, or the tenant's.")
    ] = Share.USER,
    out: Output = None,
) -> None:
    """Make a token. Its secret is shown this once."""
    from towpath.cli import parsing

    invocation = Invocation.of(ctx)
    seconds = parsing.seconds(ttl, "--ttl") if ttl else None
    # Opened first: a token whose secret is nowhere would have to be revoked.
    with place(out) as put, invocation.client() as client:
        token, secret = client.create_token(name, role.value, user=user, ttl=seconds, tenant=tenant, share=share.value)
        put(f"{secret}\n")
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
    """Make a token void at once, with all that goes on with it."""
    invocation = Invocation.of(ctx)
    with invocation.client() as client:
        found: Token = client.revoke_token(token)
    if invocation.json:
        output.document(found)
    else:
        output.line(f"{found.token_id} ({found.name}) revoked")


@app.command()
def rotate(
    ctx: typer.Context,
    overlap: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the secret of before goes on; at most 7d. Default: 1h.")
    ] = "",
    out: Output = None,
) -> None:
    """Give your own token a new secret.

    It is written to the file that the token came from, or printed this once. The secret of before goes on for a while;
    where the answer was lost, rotate again with it.
    """
    from towpath.cli import parsing, times

    invocation = Invocation.of(ctx)
    seconds = parsing.seconds(overlap, "--overlap") if overlap else None
    source = None if out else _source(invocation)
    with place(out, source) as put, invocation.client() as client:
        token, secret = client.rotate_token(seconds)
        put(f"{secret}\n")
    written = out or source
    if invocation.json:
        output.document({"token": token.to_dict()} | ({"file": str(written)} if written else {"secret": secret}))
        return
    until = f"The one of before goes on until {times.moment(token.previous_expire_time)}."
    if written:
        output.line(f"{token.token_id}: new secret written to {written}. {until}")
    else:
        output.note(f"{token.token_id}: new secret, shown this once. {until}")
        output.line(secret)


def place(out: Path | None, source: Path | None = None) -> AbstractContextManager[Callable[[str], None]]:
    """Where a secret is written: to a new file, over the one that it came from, or to none."""
    from towpath import secret_files

    if out is not None:
        return secret_files.new(out.expanduser())
    return nullcontext(lambda text: None) if source is None else secret_files.replacing(source)


def _source(invocation: Invocation) -> Path | None:
    """The file that the token comes from; None where it comes from the environment."""
    from towpath import settings

    if invocation.token_file:
        return invocation.token_file.expanduser()
    if os.environ.get(settings.TOKEN_VARIABLE):
        return None
    if named := os.environ.get(settings.TOKEN_FILE_VARIABLE):
        return Path(named).expanduser()
    path = settings.token_path()
    return path if path.is_file() else None
