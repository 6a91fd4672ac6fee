"""What grpc.aio hands to a handler."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
