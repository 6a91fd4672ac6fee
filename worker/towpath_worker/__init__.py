"""The worker of Towpath, and the API for handlers: `@handler("my.type") def run(ctx: Context, ...)`."""

from __future__ import annotations

from towpath_worker.errors import Cancelled, InvalidInput
from towpath_worker.handler import Context, handler

__all__ = ["Cancelled", "Context", "InvalidInput", "handler"]
