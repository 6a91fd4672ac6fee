"""One attempt's reports: its start, progress, logs and outcome, as they go to the scheduler."""

from __future__ import annotations

from google.protobuf import timestamp_pb2

from towpath.v1 import job_pb2, worker_service_pb2
from towpath_worker.executor import Outcome
from towpath_worker.logs import LogBook, Stream
from towpath_worker.outbox import Key, Outbox, Report


class Attempt:
    """Turns what the executor tells of one job into reports."""

    def __init__(self, lease: worker_service_pb2.Lease, outbox: Outbox) -> None:
        self.key: Key = (lease.job.job_id, lease.lease_token)
        self._outbox = outbox
        self._muted = False
        self._logs = LogBook(
            lambda chunk: self._add(Report(log=chunk)),
            has_room=lambda: outbox.has_log_room,
        )

    def started(self) -> None:
        """A child process has taken the job."""
        moment = timestamp_pb2.Timestamp()
        moment.GetCurrentTime()
        self._add(Report(started=worker_service_pb2.Started(start_time=moment)))

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
        self._outbox.drop(self.key)

    def _add(self, report: Report) -> None:
        if not self._muted:
            report.job_id, report.lease_token = self.key
            self._outbox.add(report)
