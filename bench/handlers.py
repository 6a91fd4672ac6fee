"""The job types that the bench's workers serve: they do nothing, as those of the peers."""

from __future__ import annotations

from typing import Any

from towpath_worker import Context, handler


@handler("bench.noop", inline=True)
async def noop(ctx: Context, value: Any = None) -> int:
    """In the worker's own process."""
    return 0


@handler("bench.child")
def child(ctx: Context, value: Any = None) -> int:
    """In a warm child process."""
    return 0
