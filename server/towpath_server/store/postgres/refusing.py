"""Why a database is refused as a store, in words that say what to do."""

from __future__ import annotations

import psycopg
from psycopg import errors

from towpath_server.store.base import StoreRefused
from towpath_server.store.postgres.address import Address
from towpath_server.store.rows import Row

OLDEST_SERVER = 14
_SERVER = """SELECT current_setting('server_encoding'), pg_is_in_recovery(), current_schema(), current_user,
current_schema() IS NOT NULL AND has_schema_privilege(current_schema(), 'USAGE')"""
# What libpq says, and what to do.
_ADVICE = (
    ("password", "Check the user and the password, or set PGPASSWORD."),
    ("authentication failed", "Check the user and the password, or set PGPASSWORD."),
    ("no pg_hba.conf entry", "Let this machine and user in by pg_hba.conf on the server."),
    ("does not exist", "Create it there, or check the address."),
    ("host name", "Check the host in the address."),
    ("too many", "Raise max_connections there: each scheduler needs 6."),
    ("resolve host", "Check the host in the address."),
    ("starting up", "Try again when it is up."),
    ("read-only", "Name the primary server too: this one is a standby."),
)
_ANY = "Check that PostgreSQL runs there and lets this machine in."


def unreachable(address: Address, error: psycopg.Error) -> str:
    """No connection."""
    said = address.hide(str(error))
    advice = next((words for part, words in _ADVICE if part in said), _ANY)
    return f"The store {address.shown} cannot be reached ({said}). {advice}"


def lost(address: Address) -> str:
    """It was there a moment ago."""
    return f"The store {address.shown} has gone away while it was opened. Try again."


def unfit(address: Address, error: psycopg.Error) -> str:
    """Something is missing there."""
    said = address.hide(error.diag.message_primary or str(error))
    if isinstance(error, errors.InsufficientPrivilege):
        return f"The store {address.shown} cannot be used ({said}). Make its user the owner of the database."
    if isinstance(error, errors.LockNotAvailable):
        return f"The store {address.shown} is busy ({said}). Try again."
    return f"The store {address.shown} cannot be used ({said}). Check the database, or restore a backup."


def older(address: Address, version: int, newest: int) -> str:
    """Older than this program."""
    return (
        f"The store {address.shown} has schema {version}, and this program needs {newest}. "
        "Make a backup, then run `towpath-server migrate`."
    )


def newer(address: Address, version: int, newest: int) -> str:
    """Newer than this program can work on."""
    return (
        f"The store {address.shown} was written by a newer Towpath (schema {version}, this one knows {newest}). "
        "Start that version again, or restore a backup that was made before."
    )


def foreign(address: Address) -> str:
    """Not ours."""
    return (
        f"The database {address.shown} holds the tables of another program. Make an empty one for the store "
        "(createdb), or name a schema of its own in the address (?options=-csearch_path%3Dtowpath)."
    )


def in_use(address: Address) -> str:
    """Schedulers live on it."""
    return f"The store {address.shown} is in use by schedulers. Stop all of them first."


def taken(address: Address) -> str:
    """There is a store already."""
    return f"The database {address.shown} holds a store already. Give an empty database (createdb)."


def check_server(connection: psycopg.Connection[Row], address: Address) -> None:
    """Raises `StoreRefused` where the server is none that can hold a store."""
    version = connection.info.server_version // 10000
    if version < OLDEST_SERVER:
        raise StoreRefused(
            f"The server of {address.shown} is PostgreSQL {version}; Towpath needs {OLDEST_SERVER}. Upgrade it."
        )
    [[encoding, standby, schema, user, usable]] = connection.execute(_SERVER).fetchall()
    if encoding != "UTF8":
        raise StoreRefused(
            f"The database {address.shown} is in {encoding}. Make one in UTF8: createdb -E UTF8 -T template0."
        )
    if standby:
        raise StoreRefused(f"{address.shown} is a standby. Name the primary server too: HOST1,HOST2.")
    if schema is None or not usable:
        raise StoreRefused(
            f"There is no schema in {address.shown} that {user} may use. Make it the owner of the database."
        )
