"""The calls that are being served, so that a revoked token, or the server's end, ends those that wait or stream."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from towpath_server.core.records import Principal


@dataclass(eq=False, slots=True)
class Call:
    """One call; `cut` once its token was revoked under it.

    `idle` while it waits for nobody but its client: the server's end need not wait for it. `ended` once it did not.
    """

    method: str = ""
    task: asyncio.Task[object] | None = field(default_factory=asyncio.current_task)
    principal: Principal | None = None
    cut: bool = False
    idle: bool = False
    ended: bool = False


class Calls:
    """All calls of a server that are under way."""

    def __init__(self) -> None:
        self._under_way: set[Call] = set()

    def enter(self, method: str) -> Call:
        """The call of this method that this task begins to serve."""
        call = Call(method)
        self._under_way.add(call)
        return call

    def leave(self, call: Call) -> None:
        """It is served."""
        self._under_way.discard(call)

    def served_by(self, task: asyncio.Task[object] | None) -> str | None:
        """The method that this task serves."""
        return next((call.method for call in self._under_way if call.task is task), None) if task is not None else None

    @property
    def busy(self) -> bool:
        """Whether any of them is more than a wait for its client."""
        return any(not call.idle for call in self._under_way)

    def cut(self, token_id: int) -> None:
        """End all calls of this token but the one that asks for it."""
        for call in self._under_way:
            mine = call.principal is not None and call.principal.token_id == token_id
            if mine and not call.cut and call.task is not None and call.task is not asyncio.current_task():
                call.cut = True
                call.task.cancel()

    def end_idle(self) -> None:
        """End the calls that nobody here will ever end: the server stops."""
        for call in self._under_way:
            if call.idle and not call.ended and call.task is not None:
                call.ended = True
                call.task.cancel()
