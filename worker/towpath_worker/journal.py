"""What the outbox keeps on disk: appended in batches, cleared when that is cheap, in memory while the disk is full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from towpath.v1 import worker_service_pb2
from towpath_worker.log import logger
from towpath_worker.spool import Spool

log = logger("towpath.worker")

Report = worker_service_pb2.Report

COMPACT_BYTES = 16 * 1024 * 1024


class Journal:
    """The reports that a restart must not lose. `lasting` gives all of them, in order."""

    def __init__(self, spool: Spool, lasting: Callable[[], Iterable[Report]]) -> None:
        self._spool = spool
        self._lasting = lasting
        self._only_in_memory = False
        self._compact_at = COMPACT_BYTES

    def load(self) -> list[Report]:
        """What a former life left."""
        return self._spool.load()

    def append(self, reports: Sequence[Report], *, sync: bool = False) -> None:
        """Adds reports with one write. Where the disk takes no more that is logged, once."""
        if self._only_in_memory:
            self.rewrite()
            return
        try:
            self._spool.append(reports, sync=sync)
        except OSError as error:
            log.error(
                "outcomes cannot be kept on disk and will not survive a restart: free some space",
                spool=str(self._spool.path),
                reason=str(error),
            )
            self._only_in_memory = True

    def clear(self) -> None:
        """Forgets all."""
        # Where the disk refuses even that, the next start sends again what was acked: that changes nothing.
        with suppress(OSError):
            self._spool.clear()

    def compact(self) -> None:
        """Takes out what is of no more use, when the file has grown far beyond that."""
        if self._spool.size > max(COMPACT_BYTES, self._compact_at):
            self.rewrite()
            self._compact_at = 2 * self._spool.size

    def rewrite(self) -> None:
        """Takes out what is of no more use, now."""
        try:
            self._spool.replace(self._lasting())
        except OSError:
            # What is there stays; what is not there stays in memory.
            return
        if self._only_in_memory:
            log.info("outcomes are kept on disk again")
        self._only_in_memory = False

    def close(self) -> None:
        """Closes the file."""
        self._spool.close()
