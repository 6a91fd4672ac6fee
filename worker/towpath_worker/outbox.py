"""What is still to be told to the scheduler: numbered when sent, kept until acked, joined where that loses nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Sequence

from towpath_worker import failpoints
from towpath_worker.bell import Bell
from towpath_worker.joining import Joiner
from towpath_worker.journal import Journal
from towpath_worker.reports import (
    OUTCOMES,
    REFUSED,
    Entry,
    Key,
    Report,
    entry_of,
    held_in,
    holding,
    key_of,
    release_of_dead,
)
from towpath_worker.spool import Spool

BATCH_BYTES = 1024 * 1024
BATCH_REPORTS = 1000
WINDOW_BYTES = 8 * 1024 * 1024
# What people look at goes ten times a second at most: a message costs more than all that is in it.
CHATTER = frozenset({"progress", "log"})
CHATTER_EVERY = 0.1


class Outbox:
    """The reports of one worker, in order. For one event loop."""

    def __init__(self, spool: Spool) -> None:
        self.changed = Bell(every=CHATTER_EVERY)
        self._waiting: deque[Entry] = deque()
        self._numbered: deque[Entry] = deque()
        self._sent = 0
        self._last_sequence = 0
        self._in_window = 0
        self._joiner = Joiner()
        # The earlier reports of each attempt that are not acked: they go to disk with its outcome.
        self._before: dict[Key, list[Entry]] = {}
        self._begun: dict[Key, None] = {}
        self._outcomes: set[Key] = set()
        self._to_keep: set[Key] = set()
        self._kept: dict[Key, Entry] = {}
        self._careful = False
        self._journal = Journal(spool, self._lasting)
        self._restore()

    def begin(self, keys: Collection[Key]) -> None:
        """Writes down that these jobs begin in this very process: if it dies of one, the next start gives it back."""
        self._begun |= dict.fromkeys(keys)
        self._journal.append((holding(keys),))

    def add(self, report: Report) -> None:
        """Takes a report. A waiting progress of the same job is replaced, a waiting log is prolonged."""
        self.add_all((report,))

    def add_all(self, reports: Sequence[Report]) -> None:
        """Takes reports as `add` does, their outcomes with one write."""
        added = [self._add(report) for report in reports]
        if outcomes := [entry for entry in added if entry.is_outcome]:
            self._save(outcomes)
        if all(entry.event in CHATTER for entry in added):
            self.changed.set_soon()
        else:
            self.changed.set()

    def _add(self, report: Report) -> Entry:
        entry = entry_of(report)
        if not self._joiner.join(entry):
            self._enqueue(entry)
        return entry

    def take(self) -> list[Report]:
        """The next reports for the stream; numbers those that have none. Empty while enough is unacked."""
        if self._careful and self._sent:
            return []
        batch: list[Report] = []
        size = 0
        while (entry := self._peek()) is not None:
            size += entry.size or entry.report.ByteSize()
            if batch and (self._careful or size > BATCH_BYTES or len(batch) >= BATCH_REPORTS):
                break
            if self._sent == len(self._numbered) and not self._number(entry):
                break
            self._sent += 1
            batch.append(entry.report)
        return batch

    def acked(self, sequence: int) -> None:
        """The scheduler has all reports up to here."""
        while self._numbered and self._numbered[0].report.sequence <= sequence:
            entry = self._numbered.popleft()
            self._in_window -= entry.size
            self._sent = max(0, self._sent - 1)
            self._careful = False
            if not entry.is_outcome:
                self._forget_before(entry)
            elif entry.key in self._to_keep:
                self._kept[entry.key] = entry
            else:
                self._outcomes.discard(entry.key)
        self._tidy()
        self.changed.set()

    def keep(self, key: Key) -> None:
        """Keeps the lease's outcome through its ack: it is not sent again in this life, but at the next start."""
        self._to_keep.add(key)

    def let_go(self, key: Key) -> None:
        """What `keep` kept is of no more use."""
        self._to_keep.discard(key)
        if self._kept.pop(key, None) is not None:
            self._outcomes.discard(key)
            self._tidy()

    def outcomes_until(self, sequence: int) -> dict[Key, bool]:
        """The leases whose outcome an ack up to here covers, and whether it is a success."""
        covered: dict[Key, bool] = {}
        for entry in self._numbered:
            if entry.report.sequence > sequence:
                break
            if entry.is_outcome:
                covered[entry.key] = entry.event == "succeeded"
        return covered

    def rewind(self) -> None:
        """A new stream: all that is not acked is sent again, under the same numbers."""
        self._sent = 0
        self.changed.set()

    def renumber(self) -> None:
        """A new session: all that is not acked is sent again, from number 1."""
        while self._numbered:
            entry = self._numbered.pop()
            entry.report.sequence = entry.size = 0
            self._waiting.appendleft(entry)
        self._sent = self._last_sequence = self._in_window = 0
        self._joiner.restart(self._waiting)
        self.changed.set()

    def refused(self) -> None:
        """The scheduler finds a report invalid. First they go one by one; then the guilty one is put aside."""
        if not self._careful or not self._sent:
            self._careful = True
            return
        guilty = self._numbered[0]
        if guilty.is_outcome:
            guilty.report.failed.failure.CopyFrom(REFUSED)
        else:
            guilty.report.progress.Clear()
            guilty.report.progress.SetInParent()
        guilty.event = guilty.report.WhichOneof("event") or ""

    def drop(self, key: Key) -> None:
        """Forgets what waits of a lease that is void."""
        self._waiting = deque(one for one in self._waiting if one.key != key)
        self._joiner.forget(key, self._waiting)
        self._before.pop(key, None)
        self._begun.pop(key, None)
        if key in self._outcomes and key not in self._kept and not any(one.key == key for one in self._numbered):
            self._outcomes.discard(key)
            # Or it would come back at the next start.
            self._tidy(now=True)

    def held(self) -> set[Key]:
        """Leases whose outcome is not acked yet, or kept."""
        return set(self._outcomes)

    def holds(self, key: Key) -> bool:
        """Whether `held` names this lease."""
        return key in self._outcomes

    @property
    def owed(self) -> int:
        """How many outcomes are not acked yet, or kept."""
        return len(self._outcomes)

    @property
    def owes_results(self) -> bool:
        """Whether a job came to an end here and the scheduler has not acked that."""
        return any(one.is_outcome and one.event != "released" for one in (*self._numbered, *self._waiting))

    @property
    def has_log_room(self) -> bool:
        """Whether more logs may be added."""
        return self._joiner.has_log_room

    @property
    def empty(self) -> bool:
        """Whether all is acked."""
        return not self._waiting and not self._numbered

    async def emptied(self) -> None:
        """Waits until all is acked."""
        while not self.empty:
            await self.changed.wait()
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Closes the spool."""
        self.changed.close()
        self._journal.close()

    def _save(self, outcomes: Sequence[Entry]) -> None:
        own: list[Report] = []
        for entry in outcomes:
            self._outcomes.add(entry.key)
            self._begun.pop(entry.key, None)
            own += [one.report for one in self._before.pop(entry.key, ()) if one.lasts]
            own.append(entry.report)
        self._journal.append(own, sync=any(one.report.succeeded.result.HasField("train") for one in outcomes))
        for _ in outcomes:
            failpoints.reach("outcome.spooled")

    def _tidy(self, *, now: bool = False) -> None:
        """Takes out of the journal what is of no more use: when that is cheap, or now."""
        if not self._outcomes and not self._begun:
            self._journal.clear()
        elif now:
            self._journal.rewrite()
        else:
            self._journal.compact()

    def _lasting(self) -> Iterator[Report]:
        if self._begun:
            yield holding(self._begun)
        for entry in (*self._kept.values(), *self._numbered, *self._waiting):
            if entry.key in self._outcomes and entry.lasts:
                yield entry.report

    def _restore(self) -> None:
        reports = self._journal.load()
        ended = {key_of(one) for one in reports if one.WhichOneof("event") in OUTCOMES}
        died = {key: None for one in reports for key in held_in(one) if key not in ended}
        self._outcomes = ended | died.keys()
        own = [one for one in reports if key_of(one) in ended] + [release_of_dead(key) for key in died]
        self._numbered.extend(map(entry_of, own))
        self.renumber()

    def _enqueue(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self._joiner.waits(entry)
        if not entry.is_outcome and entry.event != "progress":
            self._before.setdefault(entry.key, []).append(entry)

    def _peek(self) -> Entry | None:
        if self._sent < len(self._numbered):
            return self._numbered[self._sent]
        return self._waiting[0] if self._waiting else None

    def _number(self, entry: Entry) -> bool:
        if self._in_window > WINDOW_BYTES:
            return False
        self._waiting.popleft()
        self._joiner.leaves(entry)
        self._last_sequence += 1
        entry.report.sequence = self._last_sequence
        entry.size = entry.report.ByteSize()
        self._in_window += entry.size
        self._numbered.append(entry)
        return True

    def _forget_before(self, entry: Entry) -> None:
        before = self._before.get(entry.key)
        if before and entry in before:
            before.remove(entry)
            if not before:
                del self._before[entry.key]
