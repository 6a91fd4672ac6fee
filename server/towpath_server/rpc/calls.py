"""The calls that are being served, so that a token's end, or the server's, ends those that wait or stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from towpath_server.core.records import Principal
from towpath_server.scheduler.access import NEVER

# These answer at once, and one of them may be what has ended the token: whoever asked for that is told so.
BRIEF = "/towpath.v1.AuthService/"
# How often to look for tokens that have ended under their calls (seconds).
LOOK = 1.0


class Tokens(Protocol):
    """What knows when tokens end."""

    def now(self) -> int:
        """The time by which they do."""

    def good_until(self, principal: Principal) -> int:
        """When the secret ends that this caller has shown; 0 where it has ended whatever the time is."""

    def on_changed(self, tell: Callable[[int], None]) -> None:
        """Whom to tell of the ids of tokens that were made void or rotated."""


@dataclass(eq=False, slots=True)
class Call:
    """One call; `cut` once its token has ended under it, at `token_end` or before.

    `idle` while it waits for nobody but its client: the server's end need not wait for it. `ended` once it did not.
    """

    method: str = ""
    task: asyncio.Task[object] | None = field(default_factory=asyncio.current_task)
    principal: Principal | None = None
    token_end: int = NEVER
    cut: bool = False
    idle: bool = False
    ended: bool = False


class Calls:
    """All calls of a server that are under way."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._under_way: set[Call] = set()
        # No call's token ends before.
        self._next_end = NEVER
        self._looking: asyncio.Task[None] | None = None
        tokens.on_changed(self._changed)

    def start(self) -> None:
        """Begin to look for tokens that have ended."""
        self._looking = asyncio.get_running_loop().create_task(self._keep_looking(), name="tokens' ends")

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    def enter(self, method: str) -> Call:
        """The call of this method that this task begins to serve."""
        call = Call(method)
        self._under_way.add(call)
        return call

    def admit(self, call: Call, principal: Principal | None) -> None:
        """It is this caller's, who was let in."""
        call.principal = principal
        if principal is not None and principal.expire_time is not None:
            self._ends(call, principal.expire_time)

    def leave(self, call: Call) -> None:
        """It is served."""
        self._under_way.discard(call)
        # The task knows its call too: nothing is left to the garbage collector.
        call.task = None

    def served_by(self, task: asyncio.Task[object] | None) -> str | None:
        """The method that this task serves."""
        return next((call.method for call in self._under_way if call.task is task), None) if task is not None else None

    @property
    def busy(self) -> bool:
        """Whether any of them is more than a wait for its client."""
        return any(not call.idle for call in self._under_way)

    def cut_ended(self) -> None:
        """End all calls whose token has ended under them."""
        now = self._tokens.now()
        if now < self._next_end:
            return
        self._next_end = NEVER
        for call in self._under_way:
            if call.token_end <= now:
                _cut(call)
            else:
                self._next_end = min(self._next_end, call.token_end)

    def end_idle(self) -> None:
        """End the calls that nobody here will ever end: the server stops."""
        for call in self._under_way:
            if call.idle and not call.ended and call.task is not None:
                call.ended = True
                call.task.cancel()

    def _changed(self, token_id: int) -> None:
        """End what goes on with a secret of this token that has ended."""
        now = self._tokens.now()
        for call in self._under_way:
            if call.principal is None or call.principal.token_id != token_id:
                continue
            self._ends(call, self._tokens.good_until(call.principal))
            if call.token_end <= now:
                _cut(call)

    def _ends(self, call: Call, moment: int) -> None:
        call.token_end = moment
        self._next_end = min(self._next_end, moment)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self.cut_ended()


def _cut(call: Call) -> None:
    if not call.cut and call.task is not None and not call.method.startswith(BRIEF):
        call.cut = True
        call.task.cancel()
