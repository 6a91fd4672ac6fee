"""A network between client and scheduler that a test can break: a TCP proxy on loopback with switches."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

CHUNK = 65536
# SO_LINGER with no time to linger: the close is an RST.
RESET = struct.pack("ii", 1, 0)


class Way(Enum):
    """UP is from the client to the server, DOWN back."""

    UP = "up"
    DOWN = "down"


@dataclass(eq=False, slots=True)
class _Pipe:
    way: Way
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(eq=False)
class Proxy:
    """Passes everything on, until it is told otherwise. `passed` counts the bytes each way, `connections` all so far.

    What is swallowed is not gone for ever: as with real TCP it arrives once the network heals, where both ends still
    wait for it. The end of a connection is not passed on while it is swallowed: no FIN, no RST.
    """

    upstream: str
    #: More of them make it a load balancer: each connection goes to the next one.
    others: tuple[str, ...] = ()
    address: str = ""
    delay: float = 0.0
    connections: int = 0
    passed: dict[Way, int] = field(default_factory=lambda: dict.fromkeys(Way, 0))
    _open: dict[Way, asyncio.Event] = field(default_factory=lambda: {way: asyncio.Event() for way in Way})
    _held: dict[Way, asyncio.Event] = field(default_factory=lambda: {way: asyncio.Event() for way in Way})
    _cut_after: dict[Way, int] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def swallow(self, *ways: Way) -> None:
        """Let nothing through any more, both ways or these: a half-open connection, also for those that come now."""
        for way in ways or Way:
            self._held[way].clear()
            self._open[way].clear()

    def heal(self) -> None:
        """Pass everything on again."""
        for gate in self._open.values():
            gate.set()

    async def holds(self, way: Way) -> None:
        """Wait until something that was sent this way is swallowed."""
        async with asyncio.timeout(30):
            await self._held[way].wait()

    def cut(self) -> None:
        """Break all connections now, by RST to both ends."""
        for writer in list(self._writers):
            self._reset(writer)

    def cut_after(self, way: Way, count: int) -> None:
        """Break the connections once, after so many more bytes this way in all."""
        self._cut_after[way] = self.passed[way] + count

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as asyncio's server calls it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        ends = [writer]
        upstreams = (self.upstream, *self.others)
        try:
            await self._open[Way.UP].wait()
            host, _, port = upstreams[(number - 1) % len(upstreams)].rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            ends.append(back)
            self._writers.add(back)
            await asyncio.gather(self._pump(_Pipe(Way.UP, reader, back)), self._pump(_Pipe(Way.DOWN, there, writer)))
        except (OSError, asyncio.CancelledError):
            # Nobody there, or this network ends: the other end is told alike.
            self._reset(writer)
        finally:
            for end in ends:
                self._writers.discard(end)
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()
            self._tasks.discard(task)

    async def _pump(self, pipe: _Pipe) -> None:
        try:
            while data := await pipe.reader.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._gate(pipe.way)
                await self._pass(pipe, data)
            await self._gate(pipe.way)
            pipe.writer.write_eof()
        except OSError:
            await self._gate(pipe.way)
            self._reset(pipe.writer)

    async def _gate(self, way: Way) -> None:
        if not self._open[way].is_set():
            self._held[way].set()
            await self._open[way].wait()

    async def _pass(self, pipe: _Pipe, data: bytes) -> None:
        last = self._cut_after.get(pipe.way)
        if last is not None and self.passed[pipe.way] + len(data) >= last:
            del self._cut_after[pipe.way]
            data = data[: last - self.passed[pipe.way]]
            pipe.writer.write(data)
            self.passed[pipe.way] = last
            self.cut()
            return
        self.passed[pipe.way] += len(data)
        pipe.writer.write(data)
        await pipe.writer.drain()

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        end: socket.socket | None = writer.get_extra_info("socket")
        if end is not None:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    async def unused(self) -> None:
        """Wait until no connection goes through it any more."""
        async with asyncio.timeout(30):
            while self._tasks:
                await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Break everything and end."""
        self.cut()
        self.heal()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(upstream: str, *others: str) -> AsyncIterator[Proxy]:
    """A proxy to `HOST:PORT`, or to several in turn, on a free port of loopback."""
    network = Proxy(upstream, others)
    network.heal()
    server = await asyncio.start_server(network.serve, "127.0.0.1", 0)
    network.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield network
    finally:
        server.close()
        await network.close()
