"""Scheduler and worker inside one process: for notebooks, tests and single-machine use.

Nothing else in the product knows about this module, and it is the only one in the server that knows the worker.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import SecretStr, ValidationError

from towpath_server import app, token_file
from towpath_server.settings import MEMORY, Settings
from towpath_worker.runtime import run_worker
from towpath_worker.settings import WorkerSettings

# What clients read; the last ones would be for another scheduler.
ENVIRONMENT = (
    *("TOWPATH_ADDRESS", "TOWPATH_TOKEN_FILE"),
    *("TOWPATH_TOKEN", "TOWPATH_TLS_CA", "TOWPATH_TLS_CERT", "TOWPATH_TLS_KEY"),
)


class Address(str):
    """HOST:PORT of an embedded scheduler, with the token that it takes."""

    __slots__ = ("token",)
    token: str

    def __new__(cls, address: str, token: str) -> Address:
        """An address that is a plain string to everybody else."""
        made = super().__new__(cls, address)
        made.token = token
        return made


@contextmanager
def embedded(
    store: str = MEMORY,
    *,
    slots: int = 1,
    handlers: Sequence[str] = (),
    allow: Sequence[str] = (),
    data_dirs: Sequence[Path | str] = (),
    state_dir: Path | str | None = None,
    worker: bool = True,
) -> Iterator[Address]:
    """Run a scheduler and a worker until the block ends; gives the scheduler's address.

    `store` is `memory:`, `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`; `slots` is how many jobs run at once;
    `handlers` are modules with own job types; `allow` are the job types to run (default: all); `data_dirs` are the
    folders that jobs may read; `state_dir` is where models stay (default: a temporary folder, gone with the block).
    Inside the block `Client()` finds address and token by itself, through environment variables that are set back
    afterwards. Raises `StoreRefused`, ValueError for a wrong argument, or what kept the worker from starting.
    """
    with tempfile.TemporaryDirectory(prefix="towpath-") as scratch:
        folder = Path(scratch)
        with _plain_words():
            settings = Settings(listen="127.0.0.1:0", store=store, config_dir=folder / "config")
        running = _Scheduler(settings)
        address = running.start()
        try:
            with ExitStack() as stack:
                if worker:
                    with _plain_words():
                        wanted = WorkerSettings(
                            server=address,
                            token=SecretStr(address.token),
                            slots=slots,
                            handlers=tuple(handlers),
                            allow=tuple(allow),
                            data_dirs=tuple(Path(one) for one in data_dirs),
                            state_dir=Path(state_dir or folder / "worker"),
                        )
                    stack.enter_context(_worker(wanted))
                stack.enter_context(_environment(address, folder))
                yield address
        finally:
            running.stop()


@contextmanager
def _plain_words() -> Iterator[None]:
    """Wrong arguments in a sentence instead of a validator's report."""
    try:
        yield
    except ValidationError as error:
        said = (f"{one['loc'][0]}: {one['msg'].removeprefix('Value error, ')}" for one in error.errors())
        raise ValueError("; ".join(said)) from None


@contextmanager
def _worker(settings: WorkerSettings) -> Iterator[None]:
    async def work(ready: Callable[[], None], stop: asyncio.Event) -> None:
        await run_worker(settings, stop=asyncio.Event(), release=stop, on_ready=lambda _: ready())

    thread = _Loop("towpath-worker", work)
    thread.start()
    try:
        yield
    finally:
        thread.stop()


@contextmanager
def _environment(address: Address, folder: Path) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    path = folder / "client-token"
    token_file.write(path, address.token)
    for name in ENVIRONMENT[2:]:
        os.environ.pop(name, None)
    os.environ |= {"TOWPATH_ADDRESS": str(address), "TOWPATH_TOKEN_FILE": str(path)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Loop:
    """An event loop in a thread of its own, running one thing that says when it is ready and is told when to stop."""

    def __init__(
        self,
        name: str,
        run: Callable[[Callable[[], None], asyncio.Event], Awaitable[None]],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self._run = run
        self._loop_factory = loop_factory
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Start, and wait until it is ready. Raises what kept it from starting."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Stop, and wait until it has."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await self._run(self._ready.set, self._stop)


class _Scheduler:
    """A scheduler in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address: Address | None = None
        self._loop = _Loop("towpath-scheduler", self._serve, app.loop_factory())

    def start(self) -> Address:
        """Start, and give the address."""
        self._loop.start()
        assert self._address is not None
        return self._address

    def stop(self) -> None:
        """Stop."""
        self._loop.stop()

    async def _serve(self, ready: Callable[[], None], stop: asyncio.Event) -> None:
        running = await app.start(self._settings, first_token=False)
        self._address = Address(running.address, await running.scheduler.local_token())
        ready()
        try:
            await stop.wait()
        finally:
            await running.stop()
