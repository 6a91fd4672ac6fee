"""What is still to be told to the scheduler: numbered when sent, kept until acked, joined where that loses nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker import failpoints
from towpath_worker.log import logger
from towpath_worker.spool import COMPACT_BYTES, Spool

log = logger("towpath.worker")

Key = tuple[str, str]
Report = worker_service_pb2.Report

OUTCOMES = frozenset({"succeeded", "failed", "released"})
BATCH_BYTES = 1024 * 1024
BATCH_REPORTS = 1000
WINDOW_BYTES = 8 * 1024 * 1024
LOG_BYTES = 8 * 1024 * 1024
JOINED_LOG_BYTES = 32 * 1024


class Outbox:
    """The reports of one worker, in order. For one event loop."""

    def __init__(self, spool: Spool) -> None:
        self.changed = asyncio.Event()
        self._spool = spool
        self._waiting: deque[Report] = deque()
        self._numbered: deque[Report] = deque()
        self._sent = 0
        self._last_sequence = 0
        self._in_window = 0
        self._log_bytes = 0
        self._progress: dict[Key, Report] = {}
        self._tail: dict[Key, Report] = {}
        self._outcomes: set[Key] = set()
        self._to_keep: set[Key] = set()
        self._kept: dict[Key, Report] = {}
        self._careful = False
        self._only_in_memory = False
        self._restore()

    def add(self, report: Report) -> None:
        """Takes a report. A waiting progress of the same job is replaced, a waiting log is prolonged."""
        if not self._join(report):
            self._enqueue(report)
        if report.WhichOneof("event") in OUTCOMES:
            self._outcomes.add(key_of(report))
            self._save(report)
            failpoints.reach("outcome.spooled")
        self.changed.set()

    def take(self) -> list[Report]:
        """The next reports for the stream; numbers those that have none. Empty while enough is unacked."""
        if self._careful and self._sent:
            return []
        batch: list[Report] = []
        size = 0
        while (report := self._peek()) is not None:
            size += report.ByteSize()
            if batch and (self._careful or size > BATCH_BYTES or len(batch) >= BATCH_REPORTS):
                break
            if self._sent == len(self._numbered) and not self._number(report):
                break
            self._sent += 1
            batch.append(report)
        return batch

    def acked(self, sequence: int) -> None:
        """The scheduler has all reports up to here."""
        while self._numbered and self._numbered[0].sequence <= sequence:
            report = self._numbered.popleft()
            self._in_window -= report.ByteSize()
            self._sent = max(0, self._sent - 1)
            self._careful = False
            if report.WhichOneof("event") in OUTCOMES:
                if key_of(report) in self._to_keep:
                    self._kept[key_of(report)] = report
                else:
                    self._outcomes.discard(key_of(report))
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
        for report in self._numbered:
            if report.sequence > sequence:
                break
            if report.WhichOneof("event") in OUTCOMES:
                covered[key_of(report)] = report.HasField("succeeded")
        return covered

    def rewind(self) -> None:
        """A new stream: all that is not acked is sent again, under the same numbers."""
        self._sent = 0
        self.changed.set()

    def renumber(self) -> None:
        """A new session: all that is not acked is sent again, from number 1."""
        while self._numbered:
            report = self._numbered.pop()
            report.sequence = 0
            self._waiting.appendleft(report)
        self._sent = self._last_sequence = self._in_window = 0
        self._progress.clear()
        self._tail.clear()
        self._log_bytes = sum(len(one.log.text) for one in self._waiting)
        self.changed.set()

    def refused(self) -> None:
        """The scheduler finds a report invalid. First they go one by one; then the guilty one is put aside."""
        if not self._careful or not self._sent:
            self._careful = True
            return
        guilty = self._numbered[0]
        if guilty.WhichOneof("event") in OUTCOMES:
            guilty.failed.failure.CopyFrom(REFUSED)
        else:
            guilty.progress.Clear()
            guilty.progress.SetInParent()

    def drop(self, key: Key) -> None:
        """Forgets what waits of a lease that is void."""
        self._waiting = deque(one for one in self._waiting if key_of(one) != key)
        self._forget(key)
        if key in self._outcomes and key not in self._kept and not any(key_of(one) == key for one in self._numbered):
            self._outcomes.discard(key)
            # Or it would come back at the next start.
            self._tidy(now=True)

    def held(self) -> set[Key]:
        """Leases whose outcome is not acked yet, or kept."""
        return set(self._outcomes)

    @property
    def owes_results(self) -> bool:
        """Whether a job came to an end here and the scheduler has not acked that."""
        return any(one.WhichOneof("event") in OUTCOMES - {"released"} for one in (*self._numbered, *self._waiting))

    @property
    def has_log_room(self) -> bool:
        """Whether more logs may be added."""
        return self._log_bytes < LOG_BYTES

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
        self._spool.close()

    def _save(self, outcome: Report) -> None:
        if self._only_in_memory:
            self._rewrite()
            return
        own = [one for one in self._all() if key_of(one) == key_of(outcome) and _lasts(one)]
        try:
            self._spool.append(own, sync=outcome.succeeded.result.HasField("train"))
        except OSError as error:
            log.error(
                "outcomes cannot be kept on disk and will not survive a restart: free some space",
                spool=str(self._spool.path),
                reason=str(error),
            )
            self._only_in_memory = True

    def _tidy(self, *, now: bool = False) -> None:
        """Takes out of the spool what is of no more use: when that is cheap, or now."""
        if not self._outcomes:
            # Where the disk refuses even that, the next start sends again what was acked: that changes nothing.
            with suppress(OSError):
                self._spool.clear()
        elif now or self._spool.size > COMPACT_BYTES:
            self._rewrite()

    def _rewrite(self) -> None:
        try:
            self._spool.replace([one for one in self._all() if key_of(one) in self._outcomes and _lasts(one)])
        except OSError:
            # What is there stays; what is not there stays in memory.
            return
        if self._only_in_memory:
            log.info("outcomes are kept on disk again")
        self._only_in_memory = False

    def _restore(self) -> None:
        reports = self._spool.load()
        self._outcomes = {key_of(one) for one in reports if one.WhichOneof("event") in OUTCOMES}
        self._numbered.extend(one for one in reports if key_of(one) in self._outcomes)
        self.renumber()

    def _join(self, report: Report) -> bool:
        key = key_of(report)
        match report.WhichOneof("event"):
            case "progress" if (earlier := self._progress.get(key)) is not None:
                earlier.progress.CopyFrom(report.progress)
                return True
            case "log" if (tail := self._tail.get(key)) is not None and tail.HasField("log"):
                if tail.log.stream != report.log.stream or len(tail.log.text) > JOINED_LOG_BYTES:
                    return False
                tail.log.text += report.log.text
                self._log_bytes += len(report.log.text)
                return True
        return False

    def _enqueue(self, report: Report) -> None:
        key = key_of(report)
        self._waiting.append(report)
        self._tail[key] = report
        if report.HasField("progress"):
            self._progress[key] = report
        self._log_bytes += len(report.log.text)

    def _peek(self) -> Report | None:
        if self._sent < len(self._numbered):
            return self._numbered[self._sent]
        return self._waiting[0] if self._waiting else None

    def _number(self, report: Report) -> bool:
        if self._in_window > WINDOW_BYTES:
            return False
        self._waiting.popleft()
        key = key_of(report)
        if self._progress.get(key) is report:
            del self._progress[key]
        if self._tail.get(key) is report:
            del self._tail[key]
        self._log_bytes -= len(report.log.text)
        self._last_sequence += 1
        report.sequence = self._last_sequence
        self._in_window += report.ByteSize()
        self._numbered.append(report)
        return True

    def _forget(self, key: Key) -> None:
        self._progress.pop(key, None)
        self._tail.pop(key, None)
        self._log_bytes = sum(len(one.log.text) for one in self._waiting)

    def _all(self) -> Iterator[Report]:
        yield from self._kept.values()
        yield from self._numbered
        yield from self._waiting


def key_of(report: Report) -> Key:
    """The lease that a report is about."""
    return report.job_id, report.lease_token


def _lasts(report: Report) -> bool:
    return not report.HasField("progress")


REFUSED = job_pb2.Failure(
    cause=job_pb2.FAILURE_CAUSE_HANDLER,
    type="ResultRefused",
    message="The scheduler refused the job's outcome as invalid. See the worker's log.",
)
