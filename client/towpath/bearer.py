"""Interceptors that put `authorization: Bearer ...` on every call, of all four kinds."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

HEADER = "authorization"


class Secret:
    """A token that may be replaced while channels send it. Its repr does not show it."""

    __slots__ = ("token",)

    def __init__(self, token: str) -> None:
        self.token = token

    @property
    def entry(self) -> tuple[str, str]:
        """What goes among a call's metadata."""
        return HEADER, f"Bearer {self.token}"


def sync_interceptor(token: str | Secret) -> SyncBearer:
    """For `grpc.intercept_channel`."""
    return SyncBearer(_secret(token))


def aio_interceptors(token: str | Secret) -> list[grpc.aio.ClientInterceptor]:
    """For `grpc.aio` channels, which take one interceptor for each kind of call."""
    secret = _secret(token)
    return [UnaryUnary(secret), UnaryStream(secret), StreamUnary(secret), StreamStream(secret)]


def _secret(token: str | Secret) -> Secret:
    return Secret(token) if isinstance(token, str) else token


class Details(grpc.ClientCallDetails):
    """A blocking call's details, with the token among its metadata."""

    def __init__(self, details: grpc.ClientCallDetails, entry: tuple[str, str]) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = (*(details.metadata or ()), entry)
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


class SyncBearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the token to blocking calls. Its repr does not show it."""

    __slots__ = ("_secret",)

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(Details(client_call_details, self._secret.entry), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(Details(client_call_details, self._secret.entry), request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(Details(client_call_details, self._secret.entry), request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(Details(client_call_details, self._secret.entry), request_iterator)


class AioBearer:
    """What the four asyncio interceptors share."""

    __slots__ = ("_secret",)

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def with_token(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._secret.entry)
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class UnaryUnary(AioBearer, grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the token to unary calls."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.with_token(client_call_details), request)


class UnaryStream(AioBearer, grpc.aio.UnaryStreamClientInterceptor):
    """Adds the token to calls that are answered with a stream."""

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.with_token(client_call_details), request)


class StreamUnary(AioBearer, grpc.aio.StreamUnaryClientInterceptor):
    """Adds the token to calls that send a stream."""

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self.with_token(client_call_details), request_iterator)


class StreamStream(AioBearer, grpc.aio.StreamStreamClientInterceptor):
    """Adds the token to calls with streams both ways."""

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self.with_token(client_call_details), request_iterator)
