"""The words of the life model."""

from __future__ import annotations

from dataclasses import dataclass

from towpath_server.core.job import JobState

S = JobState

SECOND = 1_000_000
OFFER_TTL = 10 * SECOND
FORCE_MARGIN = 5 * SECOND
HELD = (S.LEASED, S.RUNNING, S.CANCELLING)
FINAL = (S.SUCCEEDED, S.FAILED, S.CANCELLED, S.TIMED_OUT)


class Refused(Exception):
    """The move is not in the table."""


@dataclass
class Held:
    """A lease: who holds the job."""

    token: str
    worker_id: int
    session_id: str
    confirmed: bool = False
    missed: int = 0
