"""One running scheduler: store, rules, gRPC server. `__main__` and `embedded` start and stop it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from towpath_server import driver, store_url, token_file
from towpath_server.core.errors import StoreUnavailable
from towpath_server.core.job import SECOND
from towpath_server.log import Logger
from towpath_server.rpc.server import RpcServer, make_server
from towpath_server.scheduler import Clock, Intervals, Scheduler, system_clock
from towpath_server.settings import Settings, StoreSettings
from towpath_server.store.base import Store, StoreRefused
from towpath_server.store.memory import MemoryStore
from towpath_server.store.shared import SharedStore
from towpath_server.store.sqlite import SqliteStore
from towpath_server.tls_files import Certificates, TlsFiles, TlsRefused
from towpath_server.token_file import Written

log = Logger(__name__)

# Beside a busy event loop the store's writer must not wait 5 ms for its turn at the interpreter (measured: 16,000
# against 148,000 rows a second).
SWITCH_INTERVAL = 1e-4


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop for a scheduler: uvloop's where it is there; None stands for asyncio's."""
    try:
        import uvloop
    except ModuleNotFoundError:
        # Windows has none.
        return None
    return uvloop.new_event_loop


def version() -> str:
    """The installed version of Towpath."""
    return importlib.metadata.version("towpath")


def open_store(settings: StoreSettings) -> Store:
    """The store that the settings name. Raises `StoreRefused` where it cannot be used."""
    if store_url.is_postgres(settings.store):
        return _open_postgres(settings.store)
    path = settings.store_path
    if path is None:
        return MemoryStore()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreRefused(f"{path.parent} cannot be made ({error.strerror}). Choose another path.") from error
    return SqliteStore(path)


def _open_postgres(url: str) -> Store:
    # Whoever does not need it does not wait for it.
    with driver.needed():
        from towpath_server.store.postgres import PostgresStore
    store = PostgresStore(url)
    for words in store.warnings:
        log.warning("store", words=words)
    return store


def clock_of(store: Store) -> Clock:
    """What tells the time to those who work on this store."""
    # All who share a store go by its clock.
    return Clock(store.now, system_clock().steady) if isinstance(store, SharedStore) else system_clock()


class StartRefused(Exception):
    """A file that the settings name cannot be used. The message says which and what to do."""


@dataclass(slots=True)
class App:
    """A scheduler that serves. `secret` is the first admin's token, set at the very first start alone."""

    settings: Settings
    scheduler: Scheduler
    server: RpcServer
    secret: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """HOST:PORT as it can be dialled."""
        return f"{self.settings.host}:{self.server.port}"

    @property
    def replica(self) -> int:
        """Which of several schedulers this is; 0 where it is the only one."""
        return self.scheduler.replica_id

    @property
    def token_file(self) -> Path:
        """Where the first admin's token lies for the local command line."""
        return self.settings.config_dir / "token"

    async def stop(self) -> None:
        """Refuse what is new, finish what is under way, end."""
        await self.server.drain()
        self.scheduler.drain()
        await self.server.stop(self.settings.drain_grace)
        await self.scheduler.stop()


async def start(settings: Settings, *, first_token: bool = True) -> App:
    """Open the store and serve; at the very first start, make the first admin's token unless told otherwise.

    Raises `StoreRefused`, `StartRefused`, or `OSError` where the address is taken.
    """
    try:
        return await _start(settings, first_token=first_token)
    except StoreUnavailable as error:
        raise StoreRefused(f"The store {settings.shown_store} has gone away while it was opened. Try again.") from error


async def _start(settings: Settings, *, first_token: bool) -> App:
    sys.setswitchinterval(SWITCH_INTERVAL)
    store = await asyncio.to_thread(open_store, settings)
    intervals = Intervals(
        heartbeat=int(settings.heartbeat_interval * SECOND),
        lease_ttl=int(settings.lease_ttl * SECOND),
        poll=int(settings.poll_timeout * SECOND),
    )
    scheduler = Scheduler(store, clock=clock_of(store), intervals=intervals, version=version())
    try:
        # Before the first token is made: a start that fails here leaves nothing behind.
        server = make_server(scheduler, host=settings.host, port=settings.port, tls=_tls(settings))
    except BaseException:
        store.close()
        raise
    app = App(settings, scheduler, server)
    try:
        shown = _Shown(app.token_file)
        app.secret = await scheduler.start(first_token=first_token, show_secret=shown.keep)
        if app.secret is None:
            shown.withdraw()
        await server.start()
    except BaseException:
        await server.stop(0)
        await scheduler.stop()
        raise
    return app


@dataclass(slots=True)
class _Shown:
    """The first admin's token, as it is written before the store knows of it, and taken back where it is void."""

    path: Path
    _secret: str = field(default="", repr=False)
    _written: Written | None = None

    def keep(self, secret: str) -> None:
        """Write it."""
        try:
            self._secret, self._written = secret, token_file.write(self.path, secret)
        except OSError as error:
            raise StartRefused(
                f"cannot write the first admin's token to {self.path}: {error.strerror or error}. "
                "Give a folder that can be written to: --config-dir"
            ) from error

    def withdraw(self) -> None:
        """Another scheduler has made the first token."""
        if self._written is not None:
            self._written.withdraw(self._secret)


def _tls(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return Certificates(TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)).credentials()
    except TlsRefused as error:
        raise StartRefused(str(error)) from error
