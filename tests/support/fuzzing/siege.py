"""Many broken requests against one server, many at a time, and a look at each answer."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor

from support.fuzzing import leaks
from support.fuzzing.messages import Request, Words, methods, request
from support.who_may import BROKEN_OFF

Metadata = tuple[tuple[str, str], ...]
C = grpc.StatusCode

# What a server may answer to a call that nobody should have made. INTERNAL would be a mistake of its own, UNKNOWN an
# exception that nobody caught, and UNAVAILABLE, CANCELLED or nothing at all a server that is in trouble.
ALLOWED = frozenset(
    {
        *(C.OK, C.INVALID_ARGUMENT, C.NOT_FOUND, C.ALREADY_EXISTS, C.ABORTED, C.FAILED_PRECONDITION),
        *(C.UNAUTHENTICATED, C.PERMISSION_DENIED, C.RESOURCE_EXHAUSTED),
    }
)
# These wait for something to happen: the client's own deadline is their end.
WAITING = frozenset({"WaitJob", "WaitJobs", "LeaseJobs", "WatchJob", "WatchJobs", "StreamJobLogs", "ReportJobs"})
OPEN = "grpc.health.v1"
# Seconds: for those that wait, and for all others, which must answer long before.
SHORT, LONG = 0.3, 60.0
AT_ONCE = 96
ANSWERS = 3
DETAILS = "grpc-status-details-bin"
# grpc and the server's own; nothing else has a reason to be there.
TRAILERS = frozenset({DETAILS})


@dataclass(frozen=True, slots=True)
class Broken:
    """A request whose answer breaks a promise."""

    request: Request
    code: grpc.StatusCode
    what: str

    def __str__(self) -> str:
        sent = ", ".join(
            raw.hex() if len(raw) < 1_000 else f"{raw[:1000].hex()}... ({len(raw)})" for raw in self.request.messages
        )
        return f"{self.request.path} answered {self.code.name}: {self.what}\n    to {sent}"


@dataclass
class Outcome:
    """What came of a siege."""

    seed: int
    sent: int = 0
    codes: Counter[grpc.StatusCode] = field(default_factory=Counter)
    reached: set[str] = field(default_factory=set)
    broken: list[Broken] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"TOWPATH_FUZZ_SEED={self.seed}: {len(self.broken)} of {self.sent} answers break a promise"]
        return "\n".join([*lines, *map(str, self.broken[:10])])


@dataclass
class Siege:
    """Who sends what, to a server whose own `places` must never be seen."""

    channel: grpc.aio.Channel
    metadata: Metadata
    words: Words
    places: tuple[Path, ...] = ()
    # Methods whose calls take somebody else's token, as they would end the siege.
    aside: Mapping[str, Metadata] = field(default_factory=dict)
    only: frozenset[str] = frozenset()

    async def lay(self, outcome: Outcome, rng: random.Random, count: int, *, admitted: bool = True) -> None:
        """Send so many requests, each method as often as any other."""
        requests = itertools.islice(self._requests(rng), count)
        senders = [asyncio.ensure_future(self._send_all(requests, outcome, admitted)) for _ in range(AT_ONCE)]
        await asyncio.gather(*senders)

    def _requests(self, rng: random.Random) -> Iterator[Request]:
        every: list[MethodDescriptor] = [one for one in methods() if not self.only or one.name in self.only]
        while True:
            rng.shuffle(every)
            for method in every:
                yield request(method, self.words, rng)

    async def _send_all(self, requests: Iterator[Request], outcome: Outcome, admitted: bool) -> None:
        for one in requests:
            code, text = await self.send(one)
            outcome.sent += 1
            outcome.codes[code] += 1
            if code in (C.OK, C.DEADLINE_EXCEEDED):
                outcome.reached.add(one.path)
            if what := self._wrong(one, code, text, admitted):
                outcome.broken.append(Broken(one, code, what))

    def _wrong(self, one: Request, code: grpc.StatusCode, text: str, admitted: bool) -> str:
        streams = one.method.client_streaming and code is C.CANCELLED and not text
        if not (admitted or streams or code is C.UNAUTHENTICATED or one.path.startswith(f"/{OPEN}")):
            return f"there was no token: {text}"
        waits = (one.method.name in WAITING or one.method.server_streaming) and code is C.DEADLINE_EXCEEDED
        if not (code in ALLOWED or waits or streams):
            return f"this must never be: {text}"
        shown = leaks.found(text, *self.places) if code is not C.DEADLINE_EXCEEDED else []
        return f"{shown} in {text}" if shown else ""

    async def send(self, one: Request) -> tuple[grpc.StatusCode, str]:
        """The code, and all text that came with it."""
        waits = one.method.name in WAITING or one.method.server_streaming
        metadata = self.aside.get(one.method.name, self.metadata)
        channel: Any = self.channel
        timeout = SHORT if waits else LONG
        if one.method.client_streaming:
            call = channel.stream_stream(one.path)(metadata=metadata, timeout=timeout)
            await _write(call, one.messages)
        elif one.method.server_streaming:
            call = channel.unary_stream(one.path)(one.messages[0], metadata=metadata, timeout=timeout)
        else:
            call = channel.unary_unary(one.path)(one.messages[0], metadata=metadata, timeout=timeout)
        return await (_stream_answer if one.method.server_streaming else _answer)(call)


async def _write(call: Any, messages: tuple[bytes, ...]) -> None:
    # The server may have said no already, and then nothing can be written.
    with suppress(grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
        for raw in messages:
            await call.write(raw)
        await call.done_writing()


async def _answer(call: Any) -> tuple[grpc.StatusCode, str]:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), text_of(error.details(), error.trailing_metadata())
    return C.OK, ""


async def _stream_answer(call: Any) -> tuple[grpc.StatusCode, str]:
    with suppress(grpc.aio.AioRpcError):
        for _ in range(ANSWERS):
            if await call.read() is grpc.aio.EOF:
                break
        else:
            call.cancel()
            return C.OK, ""
    code, details = await call.code(), await call.details()
    if details == BROKEN_OFF:
        return C.CANCELLED, ""
    return code, "" if code is C.OK else text_of(details, await call.trailing_metadata())


def text_of(details: str | None, trailers: Any) -> str:
    """The message, and everything in the trailers as text."""
    parts = [details or ""]
    if len(parts[0].encode()) > leaks.MOST_BYTES_OF_TEXT:
        parts.append("Error( the message is too long")
    for key, value in trailers or ():
        raw = value if isinstance(value, bytes) else value.encode()
        if key not in TRAILERS:
            parts.append(f"Error( unknown trailer {key}")
        if len(raw) > leaks.MOST_BYTES_OF_DETAILS:
            parts.append(f"Error( {len(raw)} bytes of {key}")
        parts.append(raw.decode(errors="replace"))
    return "\n".join(parts)
