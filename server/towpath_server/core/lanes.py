"""The number of a lane: made from what its jobs have in common, so that schedulers agree on it without asking."""

from __future__ import annotations

from dataclasses import astuple
from hashlib import blake2b

from towpath_server.core.job import Requirements

LaneKey = tuple[str, str, str, str, Requirements, str]
_BYTES = 8


def lane_id(key: LaneKey) -> int:
    """A positive number of 63 bits: the same for the same tenant, user, queue, job type, requirements and key."""
    *names, requirements, concurrency_key = key
    text = ascii((*names, astuple(requirements), concurrency_key))
    return (int.from_bytes(blake2b(text.encode(), digest_size=_BYTES).digest(), "big") >> 1) or 1
