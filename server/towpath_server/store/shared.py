"""What a store can do beside `Store` where several schedulers share it: tell each of them what the others changed.

All changes have one order, that of their sequences, and every scheduler is told of them in it. Some are seen before it
is certain that nothing will come in front of them: those are told too, ahead of their time, and again when it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from towpath_server.core.job import JobState, Priority
from towpath_server.store.base import Record, RecordKey, Store


@dataclass(frozen=True, slots=True)
class Brief:
    """A job that has changed, as it stands, without what its submitter and its worker wrote.

    `mine`: this very store changed it last, and knows that it did.
    """

    job_id: int
    lane_id: int
    priority: Priority
    position: int
    state: JobState
    revision: int
    sequence: int
    due_time: int | None
    session_id: str | None
    token: str | None
    mine: bool


@dataclass(frozen=True, slots=True)
class News:
    """The changes after a sequence that can be seen now, jobs by their sequence, each once.

    Those up to `horizon` are settled: none will ever come at or before it that was not told. `more`: there was no room
    for all; the next ones are found after `horizon`. Of small records it is told that they changed or are gone.
    """

    jobs: Sequence[Brief]
    records: Sequence[tuple[type[Record], RecordKey]]
    horizon: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """Somebody has committed something: perhaps pieces of log of these jobs, which are in no news.

    `missed`: some notices may not have come, and any job may have logged. `own`: it was this very store.
    """

    logged: frozenset[int] = frozenset()
    missed: bool = False
    own: bool = False


class Listener(Protocol):
    """A line on which all who share the store are heard."""

    def wait(self, timeout: float) -> Notice | None:
        """What was heard since the last call, at once or within `timeout` seconds; None for nothing.

        Raises `StoreUnavailable` where the line is cut; the next call stretches it again, and then misses.
        """

    def close(self) -> None:
        """Hang up. Another thread may still wait: it ends within its time."""


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that others write to at the same time, in other processes."""

    def now(self) -> int:
        """The time (microseconds since the epoch) by the clock that all who share the store go by. Asks nobody."""

    def reader(self) -> SharedStore:
        """See `Store`."""

    def news(self, after: int, limit: int, *, mine: bool = True) -> News:
        """What changed after sequence `after`: at most `limit` jobs. For a reader, inside `transaction()`.

        Of what is not settled the newest are told, `limit` jobs too: all others were there before.
        Without `mine`, jobs that this very store changed last are left out.
        """

    def listener(self) -> Listener:
        """A line of its own."""
