"""A changed copy of a job."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING

from towpath_server.core.job import Job

__all__ = ["evolve"]

if TYPE_CHECKING:
    from dataclasses import replace as evolve
else:
    _SLOTS = {one.name: Job.__dict__[one.name].__set__ for one in fields(Job)}
    _WRITE_ALL = tuple(_SLOTS.values())
    _READ_ALL = attrgetter(*_SLOTS)

    def evolve(job: Job, **changes: object) -> Job:
        """`dataclasses.replace` for a job in less than half the time: each job is changed many times on its way."""
        changed = object.__new__(Job)
        for write, value in zip(_WRITE_ALL, _READ_ALL(job), strict=True):
            write(changed, value)
        for name, value in changes.items():
            _SLOTS[name](changed, value)
        return changed
