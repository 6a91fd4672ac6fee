"""What the groups of calls of a client share."""

from __future__ import annotations

from towpath._async.connection import AsyncConnection, AsyncStubs


class AsyncCalls:
    """A group of calls over one connection."""

    _connection: AsyncConnection

    @property
    def _stubs(self) -> AsyncStubs:
        return self._connection.stubs
