"""`towpath-worker join`: turns an invitation into a credential of this worker's own, keeps it, and starts."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import SecretStr

from towpath import Client, errors
from towpath import settings as client
from towpath_worker import credential, keyrings
from towpath_worker.credential import Credential, CredentialUnusable
from towpath_worker.settings import WorkerSettings
from towpath_worker.state import StateFolder

# How every secret of a token looks.
SECRET = re.compile(r"tow_[0-9a-f]{16,}")

Server = Annotated[
    str, typer.Argument(metavar="HOST:PORT[,HOST:PORT]", help="The scheduler, or its replicas.", show_default=False)
]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="File that holds the invitation's secret.")
]
Keyring = Annotated[
    bool | None,
    typer.Option("--keyring/--no-keyring", help="Keep the credential in the system's keyring. Default: if it has one."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the credential that this worker has.")]


class JoinRefused(Exception):
    """This worker has not joined. The message says why and what to do."""


def check_words(server: str, more: list[str]) -> None:
    """Raises ValueError for what may be a secret on the command line, without repeating it."""
    if any(SECRET.search(word) for word in (server, *more)):
        raise ValueError(
            "A token on the command line can be read by everybody on this machine: have that invitation revoked "
            "(`towpath tokens revoke`) and ask for another one. `towpath-worker join HOST:PORT` asks for its secret."
        )
    if more:
        raise ValueError(
            "Give one address. The invitation's secret is asked for: never give it on the command line; if you did, "
            "have it revoked (`towpath tokens revoke`) and ask for another one."
        )


def join(settings: WorkerSettings, invitation: Path | None, *, keyring: bool | None, force: bool) -> WorkerSettings:
    """Joins, and gives the settings with the credential. Raises JoinRefused, StateFolderTaken or OSError."""
    if keyring and not keyrings.is_there():
        raise JoinRefused("There is no keyring here that keeps secrets. Without --keyring a private file keeps it.")
    # Nobody else joins or runs here meanwhile.
    state = StateFolder(settings.state_dir)
    try:
        if os.name == "posix":
            state.root.chmod(0o700)
        before = _before(settings, force=force)
        made = _redeem(settings, _secret(invitation), keyrings.is_there() if keyring is None else keyring, state.root)
    finally:
        state.close()
    where = "the system's keyring" if made.in_keyring else credential.path(state.root)
    typer.echo(f"Joined {client.spoken(settings.server)} with {made.token_id}, kept in {where}.", err=True)
    if before is not None:
        typer.echo(f"The one of before goes on until you revoke it: towpath tokens revoke {before.token_id}", err=True)
    if any(name in os.environ for name in (client.TOKEN_VARIABLE, client.TOKEN_FILE_VARIABLE)):
        typer.echo("TOWPATH_TOKEN or TOWPATH_TOKEN_FILE is set: unset it, or later starts will use that.", err=True)
    return settings.model_copy(update={"token": SecretStr(made.secret)})


def _before(settings: WorkerSettings, *, force: bool) -> Credential | None:
    """The credential that is replaced."""
    try:
        kept = credential.find(settings.state_dir)
    except CredentialUnusable as error:
        if force:
            return None
        raise JoinRefused(f"{error} --force replaces it.") from None
    if kept is None or force or not _still_good(kept, settings):
        return kept if force else None
    raise JoinRefused(
        f"This worker has joined {client.spoken(kept.server)} already ({kept.token_id}). Start it with: towpath-worker "
        f"--server {kept.server}   --force replaces its credential; --state-dir makes it another worker."
    )


def _still_good(kept: Credential, settings: WorkerSettings) -> bool:
    try:
        kept.secret_for(settings.server, settings.state_dir)
        with _client(settings, kept.secret) as asking:
            asking.whoami()
    except errors.Unauthenticated:
        return False
    except (CredentialUnusable, errors.TowpathError):
        return True
    return True


def _secret(invitation: Path | None) -> str:
    if invitation is not None:
        return client.read_token(invitation.expanduser())
    asked = sys.stdin.isatty()
    given = str(typer.prompt("The invitation's secret", hide_input=True) if asked else sys.stdin.readline())
    if not given.strip():
        raise JoinRefused("No invitation. Pipe its secret in, or name a file that holds it with --token-file.")
    return client.checked(given, "The invitation's secret")


def _redeem(settings: WorkerSettings, invitation: str, in_keyring: bool, root: Path) -> Credential:
    with credential.keeping(root) as keep:
        try:
            with _client(settings, invitation) as redeeming:
                token, secret = redeeming.enroll_worker(settings.name)
        except errors.TowpathError as error:
            _explain(error, settings.server)
        made = Credential(
            server=settings.server,
            token_id=token.token_id,
            secret=secret,
            lifetime=credential.lifetime_of(token.create_time, token.expire_time),
            in_keyring=in_keyring,
            insecure=settings.insecure,
            tls={
                name: file.expanduser().resolve()
                for name in credential.TLS
                if (file := getattr(settings, name)) is not None
            },
        )
        try:
            keep(made)
        except (OSError, keyrings.KeyringUnusable) as error:
            raise JoinRefused(
                f"The credential could not be kept ({error}), and its invitation is used up. Have {token.token_id} "
                "revoked (`towpath tokens revoke`) and ask for another invitation."
            ) from None
    return made


def _explain(error: errors.TowpathError, server: str) -> NoReturn:
    if isinstance(error, errors.Unauthenticated):
        raise JoinRefused(
            "This invitation is not valid: it was used already, or is older than 5 minutes. Ask for another one: "
            "`towpath workers invite`. If this machine has just tried and got no answer, it was used up."
        ) from None
    if isinstance(error, errors.PermissionDenied):
        raise JoinRefused(
            "This token is no invitation. `towpath workers invite` makes one; to start with a token as it is: "
            "`towpath-worker --server HOST:PORT --token-file FILE`."
        ) from None
    # What answers otherwise than with gRPC, as with TLS where this side speaks plain text, seems not to answer.
    why = f" `towpath doctor --server {server}` says what is wrong." if isinstance(error, errors.Unavailable) else ""
    raise JoinRefused(f"{error}{why} The invitation may still be good: try again within its 5 minutes.") from None


def _client(settings: WorkerSettings, token: str) -> Client:
    return Client(
        settings.server,
        token,
        insecure=settings.insecure,
        tls_ca=settings.tls_ca,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
    )
