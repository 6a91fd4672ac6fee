"""Joins reports that wait to be sent, where that loses nothing: the newest progress stands for all, a log grows."""

from __future__ import annotations

from collections.abc import Iterable

from towpath_worker.reports import Entry, Key

LOG_BYTES = 8 * 1024 * 1024
JOINED_LOG_BYTES = 32 * 1024


class Joiner:
    """What waits of each lease that more can be joined to."""

    def __init__(self) -> None:
        self._progress: dict[Key, Entry] = {}
        self._tail: dict[Key, Entry] = {}
        self._log_bytes = 0

    @property
    def has_log_room(self) -> bool:
        """Whether more logs may wait."""
        return self._log_bytes < LOG_BYTES

    def join(self, entry: Entry) -> bool:
        """Lets an entry that waits already carry this one too; False where none can."""
        match entry.event:
            case "progress" if (earlier := self._progress.get(entry.key)) is not None:
                earlier.report.progress.CopyFrom(entry.report.progress)
                return True
            case "log" if (tail := self._tail.get(entry.key)) is not None and tail.event == "log":
                last, more = tail.report.log, entry.report.log
                if last.stream != more.stream or len(last.text) > JOINED_LOG_BYTES:
                    return False
                last.text += more.text
                self._log_bytes += len(more.text)
                return True
        return False

    def waits(self, entry: Entry) -> None:
        """This entry waits now, at the end of the line."""
        if entry.is_outcome:
            self._tail.pop(entry.key, None)
            return
        self._tail[entry.key] = entry
        if entry.event == "progress":
            self._progress[entry.key] = entry
        elif entry.event == "log":
            self._log_bytes += len(entry.report.log.text)

    def leaves(self, entry: Entry) -> None:
        """This entry is sent: nothing can be joined to it any more."""
        if entry.is_outcome:
            return
        for known in (self._progress, self._tail):
            if known.get(entry.key) is entry:
                del known[entry.key]
        self._log_bytes -= len(entry.report.log.text)

    def forget(self, key: Key, waiting: Iterable[Entry]) -> None:
        """Nothing waits of this lease any more, but these of others."""
        self._progress.pop(key, None)
        self._tail.pop(key, None)
        self._count(waiting)

    def restart(self, waiting: Iterable[Entry]) -> None:
        """These wait, and nothing is joined to any of them."""
        self._progress.clear()
        self._tail.clear()
        self._count(waiting)

    def _count(self, waiting: Iterable[Entry]) -> None:
        self._log_bytes = sum(len(one.report.log.text) for one in waiting)
