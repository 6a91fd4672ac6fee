"""How far a log was read, so that no piece comes twice after a broken connection."""

from __future__ import annotations

from dataclasses import dataclass, replace

from towpath.types import LogChunk
from towpath.v1.job_service_pb2 import StreamJobLogsRequest


@dataclass(frozen=True, slots=True)
class LogPosition:
    """All of the attempts before `attempt`, and `offset` bytes of it."""

    attempt: int = 0
    offset: int = 0

    def after(self, chunk: LogChunk) -> LogPosition:
        """The position once the piece was read."""
        return LogPosition(chunk.attempt, chunk.offset + len(chunk.text.encode()))

    def rest_of(self, chunk: LogChunk) -> LogChunk | None:
        """What of a piece is new; None where nothing is."""
        known = self.offset - chunk.offset if chunk.attempt == self.attempt else 0
        content = chunk.text.encode()
        if chunk.attempt < self.attempt or (known > 0 and known >= len(content)):
            return None
        if known <= 0:
            return chunk
        return replace(chunk, text=content[known:].decode(errors="replace"), offset=self.offset)

    def next_attempt(self) -> LogPosition:
        """The begin of the attempt that follows."""
        return LogPosition(self.attempt + 1)

    def request(self, job_id: str, *, follow: bool) -> StreamJobLogsRequest:
        """Asks for the rest of the attempt."""
        return StreamJobLogsRequest(job_id=job_id, attempt=self.attempt, offset=self.offset, follow=follow)
