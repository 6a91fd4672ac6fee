"""The Towpath scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towpath_server.inprocess import embedded

__all__ = ["embedded"]


def __getattr__(name: str) -> Any:
    """`embedded` is imported when it is first asked for: it brings server and worker along."""
    if name == "embedded":
        from towpath_server.inprocess import embedded

        return embedded
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
