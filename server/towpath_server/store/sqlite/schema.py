"""The file: what makes it Towpath's, and how an older one is brought up to date."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from towpath_server.core.errors import StoreFull, StoreUnavailable
from towpath_server.store.base import StoreRefused
from towpath_server.store.sqlite.connection import Connection

# "towp" in ASCII: `file` and SQLite show it.
APPLICATION_ID = 0x746F7770
# UPDATE ... FROM came with 3.33, the built-in JSON functions with most builds since.
OLDEST_SQLITE = (3, 34, 0)
# A check of the whole file costs about 1 s for 200 MB: above this only its header and schema are read.
CHECKED_BYTES = 32 << 20
_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step from a schema to the next."""

    version: int
    name: str
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """All steps, oldest first."""
    found = [
        Migration(int(match[1]), match[2], file.read_text("utf-8"))
        for file in (files("towpath_server.store.sqlite") / "migrations").iterdir()
        if (match := _FILE_NAME.fullmatch(file.name))
    ]
    return tuple(sorted(found, key=lambda one: one.version))


def create_private(path: Path) -> None:
    """Makes an empty file that only its owner can read, in folders made where needed, or makes an old one so."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE[:2]))
        raise StoreRefused(
            f"This Python has SQLite {sqlite3.sqlite_version}; Towpath needs {oldest}. Use a newer Python or SQLite."
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.close(descriptor)
        # The write-ahead log takes its mode from the file.
        path.chmod(0o600)
    except OSError as error:
        raise StoreRefused(
            f"{path} cannot be opened ({error.strerror}). Choose another path or mend its rights."
        ) from error


def open_checked(path: Path) -> Connection:
    """A connection to the file, once it is a sound store of ours, no newer than this program, and up to date."""
    version = examine(path)
    try:
        connection = Connection(path)
        try:
            if connection.value("PRAGMA journal_mode = WAL") != "wal":
                raise StoreRefused(f"{path} lies where SQLite cannot share memory. Put it on a local disk.")
            _migrate(connection, [step for step in migrations() if step.version > version])
        except BaseException:
            connection.close()
            raise
    except (StoreFull, StoreUnavailable, sqlite3.Error) as error:
        raise StoreRefused(explain(path, error.__cause__ or error)) from error
    return connection


def examine(path: Path, *, thorough: bool = False, shown: Path | None = None) -> int:
    """The file's schema, 0 where it is empty. `thorough` reads all of it, however large; `shown` is its name in words.

    Raises `StoreRefused` where it is no sound store of ours or newer than this program. It changes no byte of it.
    """
    # To read only also keeps the end of this look from moving the log of a file that is then refused.
    mode = "rw" if path.with_name(f"{path.name}-journal").exists() else "ro"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True)) as connection:
            version = _known_version(connection, shown or path)
            if thorough or path.stat().st_size <= CHECKED_BYTES:
                check = "integrity_check" if thorough else "quick_check"
                (found,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
                if found != "ok":
                    raise StoreRefused(explain(shown or path, found))
    except sqlite3.Error as error:
        raise StoreRefused(explain(shown or path, error)) from error
    return version


def _known_version(connection: sqlite3.Connection, path: Path) -> int:
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    ((application,), (version,), (objects,)) = (
        connection.execute(one).fetchone()
        for one in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
    )
    if application != APPLICATION_ID and (application or version or objects):
        raise StoreRefused(f"{path} is the database of another program. Choose another path for the store.")
    newest = migrations()[-1].version
    if version > newest:
        raise StoreRefused(
            f"{path} was written by a newer Towpath (schema {version}, this one knows {newest}). "
            "Start that version again, or restore a backup that was made before."
        )
    return int(version)


def _migrate(connection: Connection, steps: list[Migration]) -> None:
    if not steps:
        return
    script = ["BEGIN IMMEDIATE;", f"PRAGMA application_id = {APPLICATION_ID};"]
    for step in steps:
        row = f"VALUES ({step.version}, '{step.name}', strftime('%s', 'now') * 1000000);"
        script += [step.sql, "INSERT INTO migrations", row, f"PRAGMA user_version = {step.version};"]
    connection.script("\n".join([*script, "COMMIT;"]))


def explain(path: Path, what: object) -> str:
    """Why the file is refused, and what to do."""
    words = " ".join(str(what).split())
    return (
        f"{path} cannot be used as a store ({words}). If it is damaged, restore a backup (towpath-server restore), "
        "or move it away with its -wal and -shm files and start with an empty store."
    )
