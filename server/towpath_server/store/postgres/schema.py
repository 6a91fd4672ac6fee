"""The schema: what a database must be to hold a store, and how it is brought up to date.

Steps expand first and contract later, so that programs of two versions may work on one schema: each step names the
oldest schema whose programs may go on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import takewhile

import psycopg
from psycopg import errors

from towpath_server.store.base import StoreRefused
from towpath_server.store.postgres import address as addresses
from towpath_server.store.postgres import checks, refusing, using
from towpath_server.store.postgres.address import Address
from towpath_server.store.postgres.connection import connect
from towpath_server.store.postgres.writer import COUNT_BITS
from towpath_server.store.rows import Row

# "towp" in ASCII, beside the number of the schema in the database.
_LOCK = "SELECT pg_advisory_xact_lock(1953462128, (current_schema()::regnamespace::oid::bigint % 2147483647)::int)"
_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_CONTRACTS = "\n-- contracts\n"
_OLDEST_READER = re.compile(r"^-- oldest reader: (\d+)$", re.MULTILINE)
_SETTINGS = {"lock_timeout": "1s", "jit": "off", "client_min_messages": "warning"}
# Each try gives way to the schedulers that wait behind it.
TRIES = 30
_PAUSE_SECONDS = 0.2

_TABLES = """SELECT c.relname FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
AND NOT EXISTS (
  SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"""
_OURS = """SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('migrations')
AND attname = 'oldest_reader' AND NOT attisdropped)"""
_APPLIED = "SELECT coalesce(max(version), 0), coalesce(max(oldest_reader), 0) FROM migrations"
_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_GREATEST = """SELECT base, greatest((SELECT max(sequence) FROM jobs), (SELECT max(sequence) FROM record_changes), 0),
pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM origin"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step from a schema to the next."""

    version: int
    name: str
    oldest_reader: int
    sql: str
    # Programs that know it work without it too: it only clears away what older ones needed.
    contracts: bool = False


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What `migrate` has done: the schema before and after it, and the steps between, by name.

    Those that are held back would stop schedulers of an older version that are at work.
    """

    before: int
    after: int
    applied: tuple[str, ...]
    held_back: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """The channel on which all who share the store are heard, and what its server is set to lose, in words."""

    channel: str
    warnings: tuple[str, ...]


@cache
def migrations() -> tuple[Migration, ...]:
    """All steps, oldest first."""
    found = []
    for file in (files("towpath_server.store.postgres") / "migrations").iterdir():
        if match := _FILE_NAME.fullmatch(file.name):
            sql = file.read_text("utf-8")
            reader = _OLDEST_READER.search(sql)
            if reader is None:
                raise RuntimeError(f"{file.name} does not say which is its oldest reader")
            found.append(Migration(int(match[1]), match[2], int(reader[1]), sql, _CONTRACTS in sql))
    return tuple(sorted(found, key=lambda one: one.version))


def migrate(url: str, *, dry_run: bool = False) -> MigrationReport:
    """Brings the schema up to date, also while schedulers work on it. Raises `StoreRefused`.

    With `dry_run` it only tells what it would do.
    """
    address = read(url)
    for left in reversed(range(TRIES)):
        with _connected(address) as connection:
            try:
                return _migrate(connection, address, dry_run=dry_run)
            except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
                if not left:
                    raise StoreRefused(
                        f"{address.shown} is too busy for a change of its schema. Try again, or stop the schedulers."
                    ) from error
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError


def open_checked(address: Address) -> Checked:
    """What is known of the store, once it is fit for this program.

    An empty database is filled; any other is left as it is, and where it is older than this program, refused.
    """
    with _connected(address) as connection:
        if not _is_current(connection, address):
            with _waiting(connection):
                _migrate(connection, address, fresh_only=True)
        _go_on_above(connection)
        [[schema]] = connection.execute("SELECT current_schema()::regnamespace::oid::bigint").fetchall()
        return Checked(f"towpath_{schema}", checks.warnings(connection))


def examine(address: Address) -> int:
    """The schema of a store, 0 where the database is empty. It changes nothing. Raises `StoreRefused`."""
    with _connected(address) as connection:
        return _known_version(connection, address) if [*connection.execute(_TABLES)] else 0


def fill(connection: psycopg.Connection[Row], address: Address) -> None:
    """Makes the tables of a store inside the open transaction. Raises `StoreRefused` unless the database is empty."""
    refusing.check_server(connection, address)
    connection.execute(_LOCK)
    if [*connection.execute(_TABLES)]:
        _known_version(connection, address)
        raise StoreRefused(refusing.taken(address))
    _apply(connection, migrations())


def read(url: str) -> Address:
    """The address in a URL. Raises `StoreRefused`."""
    try:
        return addresses.read(url, using.program(migrations()[-1].version))
    except ValueError as error:
        raise StoreRefused(str(error)) from None


@contextmanager
def _connected(address: Address) -> Iterator[psycopg.Connection[Row]]:
    try:
        connection = connect(address, _SETTINGS)
    except psycopg.Error as error:
        raise StoreRefused(refusing.unreachable(address, error)) from None
    try:
        refusing.check_server(connection, address)
        yield connection
    except (errors.LockNotAvailable, errors.DeadlockDetected):
        raise
    except psycopg.Error as error:
        raise StoreRefused(refusing.unfit(address, error)) from error
    finally:
        connection.close()


@contextmanager
def _waiting(connection: psycopg.Connection[Row]) -> Iterator[None]:
    # For others who fill the same empty database: nobody works on it yet.
    connection.execute("SET lock_timeout = '60s'")
    yield
    connection.execute("RESET lock_timeout")


def _is_current(connection: psycopg.Connection[Row], address: Address) -> bool:
    """False where there is nothing yet. Raises `StoreRefused` where this program cannot work on it."""
    if not [*connection.execute(_TABLES)]:
        return False
    version = _known_version(connection, address)
    if version < _needed():
        raise StoreRefused(refusing.older(address, version, _needed()))
    return True


def _needed() -> int:
    """The oldest schema that this program works on."""
    return max(step.version for step in migrations() if not step.contracts)


def _known_version(connection: psycopg.Connection[Row], address: Address) -> int:
    [[ours]] = connection.execute(_OURS).fetchall()
    if not ours:
        raise StoreRefused(refusing.foreign(address))
    [[version, oldest_reader]] = connection.execute(_APPLIED).fetchall()
    newest = migrations()[-1].version
    if version > newest and oldest_reader > newest:
        raise StoreRefused(refusing.newer(address, version, newest))
    return int(version)


def _migrate(
    connection: psycopg.Connection[Row], address: Address, *, fresh_only: bool = False, dry_run: bool = False
) -> MigrationReport:
    newest = migrations()[-1].version
    with connection.transaction():
        connection.execute(_LOCK)
        before = _known_version(connection, address) if [*connection.execute(_TABLES)] else 0
        if fresh_only and 0 < before < _needed():
            raise StoreRefused(refusing.older(address, before, _needed()))
        steps = [step for step in migrations() if step.version > before]
        oldest = using.oldest_program(connection, before) if before else newest
        ready = list(takewhile(lambda step: step.oldest_reader <= oldest, steps))
        if not dry_run:
            _apply(connection, ready)
    after = ready[-1].version if ready else before
    return MigrationReport(before, after, _names(ready), _names(steps[len(ready) :]))


def _apply(connection: psycopg.Connection[Row], steps: Sequence[Migration]) -> None:
    for step in steps:
        row = f"{step.version}, '{step.name}', {step.oldest_reader}, {_NOW}"
        script = f"{step.sql}\n;INSERT INTO migrations VALUES ({row})"  # noqa: S608 - of files of ours
        connection.execute(script.encode(), prepare=False)


def _names(steps: Sequence[Migration]) -> tuple[str, ...]:
    return tuple(f"{step.version:04} {step.name}" for step in steps)


def _go_on_above(connection: psycopg.Connection[Row]) -> None:
    """Numbers of changes go on above those that are stored, also where a dump was restored on another server."""
    if not _gap(connection):
        return
    with connection.transaction():
        connection.execute(_LOCK)
        if gap := _gap(connection):
            connection.execute(b"UPDATE origin SET base = base + $1::bigint", [str(gap)])


def _gap(connection: psycopg.Connection[Row]) -> int:
    """By how much the base is too small."""
    [[base, greatest, transaction]] = connection.execute(_GREATEST).fetchall()
    missing: int = (((greatest - base) >> COUNT_BITS) + 1 - transaction) << COUNT_BITS
    return max(0, missing)
