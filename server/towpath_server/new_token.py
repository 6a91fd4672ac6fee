"""`towpath-server new-token`: a way back for who has lost the last admin's token, through the store itself."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from pathlib import Path

from towpath_server import app, token_file
from towpath_server.core.errors import StoreFull, StoreUnavailable
from towpath_server.core.ids import show
from towpath_server.core.records import Principal, Role, Token
from towpath_server.entropy import Entropy
from towpath_server.scheduler import FIRST_USER, Intervals
from towpath_server.scheduler.access import FIRST_TENANT, Access
from towpath_server.scheduler.state import State
from towpath_server.store.base import Store, StoreRefused
from towpath_server.store.sqlite.lockfile import Locked
from towpath_server.store.sqlite.snapshot import demand_file
from towpath_server.token_file import Written, WrittenNew
from towpath_server.upkeep_settings import NewTokenSettings

# Whoever may write to the store: it shows no token.
_BY = Principal(0, "", "", Role.ADMIN, origin="towpath-server new-token")


def new_token(settings: NewTokenSettings) -> str:
    """Make an admin's token and write it to a file. Raises `StoreRefused`, and then nothing has changed."""
    path = settings.file
    if settings.output is not None and path.exists():
        raise StoreRefused(f"{path} is there already. Choose another name.")
    is_aside = path.exists()
    try:
        with closing(_open(settings)) as store:
            token = asyncio.run(_make(store, settings, path))
    except (StoreUnavailable, StoreFull) as error:
        raise StoreRefused(f"The store {settings.shown_store} did not take the token: {error}") from error
    lines = [f"made {show('tok', token.token_id)}, an admin's token of the user {token.user} of tenant {token.tenant}"]
    lines.append(f"  token   written to {path} (shown nowhere else)")
    if is_aside:
        lines.append(f"  before  the token that was there is kept beside it, as {path.name}.NUMBER")
    if settings.needs_naming:
        lines.append(f"  first   export TOWPATH_TOKEN_FILE={path}")
    lines.append("  know    Tokens of before are as they were: `towpath tokens list`, `towpath tokens revoke`")
    return "\n".join(lines)


def _open(settings: NewTokenSettings) -> Store:
    if settings.store_path is not None:
        demand_file(settings.store_path)
    try:
        return app.open_store(settings)
    except StoreRefused as error:
        if isinstance(error.__cause__, Locked):
            raise StoreRefused(
                f"{settings.store_path} is in use by a scheduler (process {error.__cause__}). Stop it, run this again, "
                "and start it."
            ) from error
        raise


async def _make(store: Store, settings: NewTokenSettings, path: Path) -> Token:
    state = State(store, app.clock_of(store), Entropy(), Intervals())
    access = Access(state)
    if access.is_empty:
        raise StoreRefused(
            f"The store {settings.shown_store} has never had a token. Look at its address, or start the scheduler: "
            "it makes the first one."
        )
    # In the file before the store knows of it: one that nobody can read would be of no use.
    secret = access.new_secret()
    written = _write(path, secret, is_own=settings.output is not None)
    try:
        state.committer.start()
        # What is on its way to the store goes on where somebody types Ctrl-C: then it counts what has become of it.
        with suppress(asyncio.CancelledError):
            await access.issue(FIRST_TENANT, FIRST_USER, settings.name, Role.ADMIN, secret=secret, by=_BY)
        await state.finish()
    finally:
        await state.committer.stop()
        token = access.of_secret(secret)
        if token is None:
            written.withdraw(secret)
    if token is None:
        raise asyncio.CancelledError
    return token


def _write(path: Path, secret: str, *, is_own: bool) -> Written | WrittenNew:
    try:
        return token_file.write_new(path, secret) if is_own else token_file.write(path, secret)
    except OSError as error:
        raise StoreRefused(
            f"cannot write the token to {path}: {error.strerror or error}. Give a new file: --output FILE"
        ) from error
