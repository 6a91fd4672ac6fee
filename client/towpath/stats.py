"""Counts of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from towpath.enums import JobState
from towpath.records import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStateCount(Record):
    """How many jobs stand in a state."""

    state: JobState
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStats(Record):
    """Counts of jobs."""

    states: tuple[JobStateCount, ...]
    total_count: int
    active_count: int
    oldest_queued_age: timedelta | None

    @property
    def by_state(self) -> dict[JobState, int]:
        """The counts by state; states without a job are left out."""
        return {one.state: one.count for one in self.states}
