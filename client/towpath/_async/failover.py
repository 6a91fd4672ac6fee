"""A channel to one of several replicas, remade at the next one when that fails."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio

from towpath import channel, settings
from towpath.bearer import Secret
from towpath.errors import InvalidArgument
from towpath.replicas import Renewal, Replicas, Turn, Turns
from towpath.tls import TlsFiles, TlsSource


class AsyncDial:
    """Opens channels to a scheduler. Where it has several addresses, all of them stay at one replica together."""

    def __init__(
        self,
        address: str,
        token: str | Secret | None,
        *,
        insecure: bool,
        tls_ca: Path | None = None,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
    ) -> None:
        self._address = address
        self._token = token
        self._tls = TlsSource(TlsFiles(tls_ca, tls_cert, tls_key), insecure)
        addresses = settings.addresses(address)
        self.replicas = Replicas(addresses) if len(addresses) > 1 else None

    def open(self) -> grpc.aio.Channel:
        """A channel. Each address keeps its own rule of TLS, and its own name."""
        if self.replicas is not None:
            turns: Turns = self.replicas
        elif self._tls.files.all:
            # A channel keeps the certificates that it was made with.
            turns = Renewal(self._address, lambda: self._tls.is_stale)
        else:
            return self._open_to(self._address, channel.ALONE)
        # All that stubs ask of a channel.
        return cast("grpc.aio.Channel", AsyncFailover(turns, self._open_to))

    def _open_to(self, address: str, pace: channel.Pace) -> grpc.aio.Channel:
        return channel.aio_channel(address, self._token, tls=self._tls, pace=pace)


@dataclass(eq=False, slots=True)
class AsyncLink:
    """A channel to the replica whose turn it is or was, and how many calls are under way on it."""

    turn: Turn
    channel: grpc.aio.Channel
    calls: int = 0


class AsyncFailover:
    """Stands where stubs want a channel. What is under way at a replica that was left may end there."""

    def __init__(self, replicas: Turns, open_to: Callable[[str, channel.Pace], grpc.aio.Channel]) -> None:
        self.replicas = replicas
        self._open_to = open_to
        self._lock = threading.Lock()
        self._links: list[AsyncLink] = []
        self._closed = False

    def unary_unary(self, *method: Any, **how: Any) -> AsyncUnary:
        """A method with one answer."""
        return AsyncUnary(self, lambda opened: opened.unary_unary(*method, **how))

    def unary_stream(self, *method: Any, **how: Any) -> AsyncStreaming:
        """A method with a stream of answers."""
        return AsyncStreaming(self, lambda opened: opened.unary_stream(*method, **how))

    def stream_stream(self, *method: Any, **how: Any) -> AsyncStreaming:
        """A method with streams both ways."""
        return AsyncStreaming(self, lambda opened: opened.stream_stream(*method, **how))

    def enter(self) -> AsyncLink:
        """A call begins: where."""
        with self._lock:
            turn = self.replicas.turn
            if not self._links or self._links[-1].turn is not turn:
                if self._closed:
                    raise InvalidArgument("This client is closed. Make a new one.")
                self._links.append(AsyncLink(turn, self._open_to(turn.address, self.replicas.pace)))
            link = self._links[-1]
            link.calls += 1
            return link

    async def leave(self, link: AsyncLink) -> None:
        """A call has ended; the last one at a replica that was left closes the channel."""
        turn = self.replicas.turn
        with self._lock:
            link.calls -= 1
            if len(self._links) == 1 and link.turn is turn:
                return
            over = [one for one in self._links if not one.calls and one.turn is not turn]
            self._links = [one for one in self._links if one not in over]
        for one in over:
            await one.channel.close()

    async def close(self) -> None:
        """Ends all calls."""
        with self._lock:
            closing, self._links, self._closed = self._links, [], True
        for one in closing:
            await one.channel.close()


class AsyncMethod:
    """A method of the contract, at whichever replica its next call goes to."""

    def __init__(self, failover: AsyncFailover, make: Callable[[grpc.aio.Channel], Any]) -> None:
        self._failover = failover
        self._make = make
        self._made: tuple[AsyncLink | None, Any] = (None, None)

    def _at(self, link: AsyncLink) -> Any:
        made_for, method = self._made
        if made_for is not link:
            method = self._make(link.channel)
            self._made = (link, method)
        return method


class AsyncUnary(AsyncMethod):
    """Called as grpc's own."""

    async def __call__(self, request: Any, *, timeout: float | None = None) -> Any:
        """The answer."""
        link = self._failover.enter()
        try:
            answer = await self._at(link)(request, timeout=timeout)
        except grpc.RpcError as error:
            self._failover.replicas.failed(link.turn, error, timeout)
            raise
        else:
            self._failover.replicas.answered(link.turn)
            return answer
        finally:
            await self._failover.leave(link)


class AsyncStreaming(AsyncMethod):
    """Called as grpc's own."""

    def __call__(self, request: Any, *, timeout: float | None = None) -> AsyncAnswers:
        """The answers, to be read once."""
        link = self._failover.enter()
        return AsyncAnswers(self._failover, link, self._at(link)(request, timeout=timeout))


class AsyncAnswers:
    """A stream of answers."""

    def __init__(self, failover: AsyncFailover, link: AsyncLink, call: Any) -> None:
        self._failover = failover
        self._link = link
        self._call = call

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        try:
            async for answer in self._call:
                self._failover.replicas.answered(self._link.turn)
                yield answer
        except grpc.RpcError as error:
            self._failover.replicas.failed(self._link.turn, error, None)
            raise
        finally:
            await self._failover.leave(self._link)

    def cancel(self) -> None:
        """Ends it."""
        self._call.cancel()
