"""Those who follow all jobs: at one scheduler and then at another, each time from where they were."""

from __future__ import annotations

from contextlib import suppress

import grpc

from support.history import Followed
from support.submitters import Observer
from towpath import Client
from towpath.v1 import job_service_pb2

# How long one watch is read before the next is begun elsewhere (seconds); a scheduler that stands still says nothing.
SHORTEST, LONGEST = 0.3, 3.0
PAUSE = 0.05
# What comes in the end must be told within so many turns.
TURNS = 20


class Follower(Observer):
    """Reads WatchJobs until it was told all that there was in the end."""

    def run(self) -> None:
        clients = [Client(address, self.shared.token, timeout=LONGEST) for address in self.shared.address.split(",")]
        heard: dict[str, int] = {}
        try:
            # All jobs there are, and then what changes.
            sequence, left = 1, TURNS
            while left and not self._has_all(heard):
                sequence = self._read(self.chance.choice(clients), sequence, heard)
                left -= self.shared.ends is not None
        finally:
            for client in clients:
                client.close()

    def _read(self, client: Client, sequence: int, heard: dict[str, int]) -> int:
        stub = client._connection.stubs.jobs.WatchJobs
        request = job_service_pb2.WatchJobsRequest(from_sequence=sequence)
        stream = stub(request, timeout=self.chance.uniform(SHORTEST, LONGEST))
        with suppress(grpc.RpcError):
            for response in stream:
                for event in response.events:
                    told = Followed(self.name, event.job.job_id, int(event.job.etag), response.sequence)
                    self.shared.history.followed.append(told)
                    heard[told.job_id] = told.revision
                sequence = response.sequence
                if self._has_all(heard):
                    break
        stream.cancel()
        self.shared.stop.wait(0.0 if self.shared.stop.is_set() else PAUSE)
        return sequence

    def _has_all(self, heard: dict[str, int]) -> bool:
        ends = self.shared.ends
        return ends is not None and all(heard.get(job_id) == revision for job_id, revision in ends.items())
