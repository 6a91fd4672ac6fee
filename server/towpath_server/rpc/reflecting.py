"""Reflection, by which tools such as grpcurl learn the protos. It is imported when the first of them asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

SERVICE = "grpc.reflection.v1alpha.ServerReflection"


def reflecting(services: Sequence[str]) -> grpc.GenericRpcHandler:
    """The service that tells of these services, and of itself."""

    async def answers(requests: AsyncIterator[Message], context: object) -> AsyncIterator[Message]:
        from grpc_reflection.v1alpha import reflection

        servicer: Any = reflection.aio.ReflectionServicer([*services, SERVICE])
        async for answer in servicer.ServerReflectionInfo(requests, context):
            yield answer

    handler: Any = grpc.stream_stream_rpc_method_handler(
        answers,
        request_deserializer=_request,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"ServerReflectionInfo": handler})


def _request(raw: bytes) -> Message:
    from grpc_reflection.v1alpha import reflection_pb2

    return reflection_pb2.ServerReflectionRequest.FromString(raw)
