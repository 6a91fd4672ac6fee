# ruff: noqa: N802
"""Health, for those who watch over the scheduler. It needs no token, so nobody who asks can be in another's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from towpath_server.rpc.context import ServicerContext

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
# The types that are there for mypy are older than List.
_pb: Any = health_pb2


class Health(health_pb2_grpc.HealthServicer):
    """The state of each service; empty stands for the server as a whole.

    grpc's own holds a lock while it writes to a watcher: one that did not read kept all others waiting, and the end.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services = ("", *services)
        self._state: int = NOT_SERVING
        self._changed = asyncio.Event()

    def begin(self) -> None:
        """All services are there."""
        self._become(SERVING)

    def end(self) -> None:
        """They are not, or soon will not be."""
        self._become(NOT_SERVING)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: ServicerContext) -> object:
        """One service."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=self._state)

    async def List(self, request: object, context: ServicerContext) -> object:
        """All services."""
        answer = health_pb2.HealthCheckResponse(status=self._state)
        return _pb.HealthListResponse(statuses=dict.fromkeys(self._services, answer))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """One service now, and after each change."""
        told: int | None = None
        while True:
            changed = self._changed
            state = self._state if request.service in self._services else UNKNOWN
            if state != told:
                told = state
                yield health_pb2.HealthCheckResponse(status=state)
            await changed.wait()

    def _become(self, state: int) -> None:
        self._state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
