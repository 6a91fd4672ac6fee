"""Ids as the wire shows them."""

from __future__ import annotations

from towpath_server.core import ids

JOB, WORKER, MODEL, TOKEN, SCHEDULER = "job", "wkr", "mdl", "tok", "sch"


def show(prefix: str, number: int | None) -> str:
    """The id with its prefix; the empty string for none."""
    return "" if not number else ids.show(prefix, number)


def read(prefix: str, text: str) -> int:
    """The number of an id; 0, which no id has, for any other text."""
    return ids.read(prefix, text) or 0
