"""The worker's ends of the pipes to a child process: served by the event loop, or by threads where it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import IO

PIECE = 64 * 1024
TAIL_BYTES = 4000
# What Python adds to the trace of a crash, after the lines that matter: 8 KB and more where pandas is loaded.
EXTENSIONS = b"\nExtension modules: "
EXTENSIONS_BYTES = 60_000
# Windows' event loop knows no pipes that another process was given.
BY_LOOP = sys.platform != "win32"


class Reader:
    """Calls `on_data` in the event loop with each piece that comes, with b"" at the end. Owns its descriptor."""

    def __init__(self, descriptor: int, on_data: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._on_data = on_data
        self._loop = asyncio.get_running_loop()
        self._closed = False
        if BY_LOOP:
            os.set_blocking(descriptor, False)
            self._loop.add_reader(descriptor, self._ready)
        else:
            threading.Thread(target=self._read_on, name="towpath-pipe", daemon=True).start()

    def close(self) -> None:
        """Reads no more."""
        if self._closed:
            return
        self._closed = True
        if BY_LOOP:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)

    def _ready(self) -> None:
        try:
            data = os.read(self._descriptor, PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        self._on_data(data)

    def _read_on(self) -> None:
        # The job waits while eight pieces wait for the event loop: memory stays bounded.
        gate = threading.Semaphore(8)
        with contextlib.suppress(RuntimeError), os.fdopen(self._descriptor, "rb", buffering=0) as source:
            while True:
                gate.acquire()
                data = source.read(PIECE) or b""
                self._loop.call_soon_threadsafe(self._hear, data, gate)
                if not data:
                    return

    def _hear(self, data: bytes, gate: threading.Semaphore) -> None:
        gate.release()
        if not self._closed:
            self._on_data(data)


class Writer:
    """Writes one piece after the other, whole. Owns its descriptor. OSError where nobody reads any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        if BY_LOOP:
            os.set_blocking(descriptor, False)

    async def write(self, data: bytes) -> None:
        """Writes all of it; waits while the pipe is full."""
        async with self._turn:
            view = memoryview(data)
            while view:
                if self._closed:
                    raise BrokenPipeError
                if BY_LOOP:
                    view = view[await self._write_some(view) :]
                else:
                    view = view[await asyncio.to_thread(os.write, self._descriptor, view) :]

    def close(self) -> None:
        """Writes no more."""
        if self._closed:
            return
        self._closed = True
        if self._room is not None:
            self._loop.remove_writer(self._descriptor)
            if not self._room.done():
                self._room.set_exception(BrokenPipeError())
        os.close(self._descriptor)

    async def _write_some(self, view: memoryview) -> int:
        try:
            return os.write(self._descriptor, view)
        except BlockingIOError:
            self._room = self._loop.create_future()
            self._loop.add_writer(self._descriptor, _wake, self._room)
        try:
            await self._room
        finally:
            self._room = None
            if not self._closed:
                self._loop.remove_writer(self._descriptor)
        return 0


class Tail:
    """The last of what a process has written."""

    def __init__(self) -> None:
        self._kept = b""

    def add(self, data: bytes) -> None:
        """It has written more."""
        self._kept = (self._kept + data)[-EXTENSIONS_BYTES - TAIL_BYTES :]

    def text(self) -> str:
        """The end of it, for a person."""
        tail, found, extensions = self._kept.rpartition(EXTENSIONS)
        if not found or b"\n" in extensions.strip():
            tail = self._kept
        return tail[-TAIL_BYTES:].decode("utf-8", "replace").strip()


def owned(file: IO[bytes] | None) -> int:
    """The descriptor of a pipe whose file object is of no more use."""
    assert file is not None
    with file:
        return os.dup(file.fileno())


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
