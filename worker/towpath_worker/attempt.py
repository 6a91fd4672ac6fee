"""One attempt's reports: its start, progress, logs and outcome, as they go to the scheduler."""

from __future__ import annotations

import asyncio

from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker.job_log import NOT_KNOWN, Usage
from towpath_worker.log import logger
from towpath_worker.logs import LogBook, Stream
from towpath_worker.outbox import Outbox
from towpath_worker.outcomes import Outcome
from towpath_worker.reports import Key, Report, now

log = logger("towpath.worker")

# Seconds: most jobs that end sooner are spared a message.
MOMENT = 0.01


class Attempt:
    """Turns what the executor tells of one job into reports."""

    def __init__(self, lease: worker_service_pb2.Lease, outbox: Outbox) -> None:
        self.key: Key = (lease.job.job_id, lease.lease_token)
        #: False also of a job that was over too soon to tell.
        self.start_told = False
        #: What the job has used, once it is over.
        self.usage = NOT_KNOWN
        self._lease = lease
        self._outbox = outbox
        self._muted = False
        self._telling: asyncio.TimerHandle | None = None
        self._logs = LogBook(
            lambda chunk: self._add(Report(log=chunk)),
            has_room=lambda: outbox.has_log_room,
        )

    def started(self) -> None:
        """A child process has taken the job. Told a moment later, if its outcome does not come sooner and says it."""
        self._telling = asyncio.get_running_loop().call_later(MOMENT, self.tell_started)

    def tell_started(self) -> None:
        """Tells now that the job runs."""
        self._forget_start()
        self.start_told = True
        log.info("job", job=self.key[0], type=self._lease.job.job_type, attempt=self._lease.attempt)
        self._add(Report(started=worker_service_pb2.Started(start_time=now())))

    def used(self, usage: Usage) -> None:
        """The job is over, and has used this."""
        self.usage = usage

    def progress(self, progress: job_pb2.Progress) -> None:
        """The job came further."""
        self._add(Report(progress=progress))

    def output(self, stream: Stream.ValueType, data: bytes) -> None:
        """The job wrote something."""
        self._logs.write(stream, data)

    def finish(self, outcome: Outcome | None) -> None:
        """The job is over. None: nothing is said of it."""
        if outcome is None:
            self.mute()
            return
        self._logs.close()
        self._forget_start()
        match outcome:
            case worker_service_pb2.Succeeded():
                self._add(Report(succeeded=outcome))
            case worker_service_pb2.Failed():
                self._add(Report(failed=outcome))
            case _:
                self._add(Report(released=outcome))

    def mute(self) -> None:
        """The lease is void: what waits is forgotten, and nothing more is said."""
        self._muted = True
        self._forget_start()
        self._outbox.drop(self.key)

    def _forget_start(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def _add(self, report: Report) -> None:
        if self._telling is not None:
            self.tell_started()
        if not self._muted:
            report.job_id, report.lease_token = self.key
            self._outbox.add(report)
