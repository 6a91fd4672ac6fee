"""This process by a name that no other has, a forked child neither."""

from __future__ import annotations

import itertools
import os
from uuid import uuid4

_count = itertools.count(1)
_name = str(uuid4())


def name() -> str:
    """The same as long as this process lives."""
    return _name


def new_id() -> str:
    """An id that nobody else gives, for a fraction of what random bytes cost."""
    return f"{_name}-{next(_count)}"


def _renew() -> None:
    global _name  # noqa: PLW0603 - there is one process
    _name = str(uuid4())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
