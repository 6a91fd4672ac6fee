"""All RPCs that a server serves, each called with whatever is sent, and the whole of what comes back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import grpc
import grpc.aio
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from support.rpc_stage import Metadata, raw_answers, raw_stream, raw_unary

# Their descriptors are in the pool once they are imported.
OTHERS = (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)

# What differs from call to call: ids that were just made, and times.
_FRESH = re.compile(r"\b(job|wkr|ses|tok|mdl|sch|tow)_[0-9a-z]{10,}|\b\d{6,}\b")

# A client's own words for a stream that the server ended while it wrote: what the server said is lost.
BROKEN_OFF = "Internal error from Core"


@dataclass(frozen=True)
class Answer:
    """All that a caller is told."""

    code: grpc.StatusCode
    text: str = ""
    first: tuple[tuple[str, str | bytes], ...] = ()
    last: tuple[tuple[str, str | bytes], ...] = ()
    body: bytes = b""


@contextmanager
def all_served() -> Iterator[set[str]]:
    """The methods of whatever is added to a server meanwhile, as grpc is told of them."""
    found: set[str] = set()
    kind: Any = type(grpc.aio.server())
    registered, generic = kind.add_registered_method_handlers, kind.add_generic_rpc_handlers

    def add_registered(self: Any, service: str, handlers: Any) -> None:
        found.update(f"/{service}/{name}" for name in handlers)
        registered(self, service, handlers)

    def add_generic(self: Any, handlers: Any) -> None:
        for handler in handlers:
            found.update(handler._method_handlers)
        generic(self, handlers)

    with (
        patch.object(kind, "add_registered_method_handlers", add_registered),
        patch.object(kind, "add_generic_rpc_handlers", add_generic),
    ):
        yield found


def described(method: str) -> MethodDescriptor:
    """Its descriptor."""
    service, _, name = method.removeprefix("/").partition("/")
    return descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]


def answer_type(method: str) -> type[Message]:
    """What it answers with."""
    return message_factory.GetMessageClass(described(method).output_type)


async def call(channel: grpc.aio.Channel, method: str, metadata: Metadata = (), request: bytes = b"") -> Answer:
    """Call a method with these bytes; of a stream the first answer."""
    while (answer := await _call(channel, method, metadata, request)).text == BROKEN_OFF:
        pass
    return answer


async def _call(channel: grpc.aio.Channel, method: str, metadata: Metadata, request: bytes) -> Answer:
    kind = described(method)
    under_way: Any
    if kind.client_streaming:
        under_way = raw_stream(channel, method)(_one(request), metadata=metadata, timeout=20)
    elif kind.server_streaming:
        under_way = raw_answers(channel, method)(request, metadata=metadata, timeout=20)
    else:
        under_way = raw_unary(channel, method)(request, metadata=metadata, timeout=20)
    body = b""
    try:
        if kind.server_streaming:
            async for message in under_way:
                body = message
                break
        else:
            body = await under_way
    except grpc.aio.AioRpcError as error:
        first, last = tuple(error.initial_metadata()), tuple(error.trailing_metadata())
        return Answer(error.code(), error.details() or "", first, last)
    finally:
        under_way.cancel()
    return Answer(grpc.StatusCode.OK, body=body)


async def _one(request: bytes) -> AsyncIterator[bytes]:
    yield request


def plain(method: str, answer: Answer, names: dict[str, str]) -> object:
    """The answer, where these names stand for others and what is fresh in it for nothing."""
    if answer.code is grpc.StatusCode.OK:
        return answer.code, _FRESH.sub("-", _renamed(str(answer_type(method).FromString(answer.body)), names))
    last = [
        (key, _renamed(value.decode("latin-1") if isinstance(value, bytes) else value, names))
        for key, value in answer.last
    ]
    return answer.code, _renamed(answer.text, names), answer.first, last


def _renamed(text: str, names: dict[str, str]) -> str:
    for name, other in names.items():
        text = text.replace(name, other)
    return text
