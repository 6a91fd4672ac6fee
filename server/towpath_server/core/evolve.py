"""A changed copy of a job, or of what its submitter asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from towpath_server.core.job import Definition, Job

__all__ = ["evolve"]

if TYPE_CHECKING:
    from dataclasses import replace as evolve
else:
    T = TypeVar("T", Job, Definition)
    _write = object.__setattr__

    def evolve(value: T, **changes: object) -> T:
        """`dataclasses.replace` in a tenth of the time: each job is changed many times on its way.

        It asks nothing: type checkers see that the names are right. That is why these two classes have no slots.
        """
        changed = object.__new__(value.__class__)
        _write(changed, "__dict__", value.__dict__ | changes)
        return changed
