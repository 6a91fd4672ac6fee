"""A job's output as log chunks: whole characters, numbered by byte, bounded."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from towpath.v1 import job_service_pb2, worker_service_pb2
from towpath_worker.reports import now

Stream = job_service_pb2.LogStream

CHUNK_CHARACTERS = 16 * 1024
ATTEMPT_LIMIT = 16 * 1024 * 1024


class LogBook:
    """The log of one attempt. What there is no room for is dropped, and the log says how much."""

    def __init__(
        self,
        emit: Callable[[worker_service_pb2.LogChunk], None],
        has_room: Callable[[], bool] = lambda: True,
        limit: int = ATTEMPT_LIMIT,
    ) -> None:
        self._emit = emit
        self._has_room = has_room
        self._limit = limit
        self._offset = 0
        self._dropped = 0
        self._decoders: dict[Stream.ValueType, codecs.IncrementalDecoder] = {}

    def write(self, stream: Stream.ValueType, data: bytes, *, final: bool = False) -> None:
        """Adds bytes that one of the streams brought; they may end within a character."""
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data, final)
        for start in range(0, len(text), CHUNK_CHARACTERS):
            self._add(stream, text[start : start + CHUNK_CHARACTERS])

    def close(self) -> None:
        """Adds what was still incomplete."""
        for stream in tuple(self._decoders):
            self.write(stream, b"", final=True)
        self._say_dropped()

    def _add(self, stream: Stream.ValueType, text: str) -> None:
        size = len(text.encode())
        if self._offset + size > self._limit or not self._has_room():
            self._dropped += size
            return
        self._say_dropped()
        self._send(stream, text)

    def _say_dropped(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._send(job_service_pb2.LOG_STREAM_LOG, f"\n[{dropped} bytes of output dropped: too much at once]\n")

    def _send(self, stream: Stream.ValueType, text: str) -> None:
        self._emit(worker_service_pb2.LogChunk(offset=self._offset, text=text, stream=stream, log_time=now()))
        self._offset += len(text.encode())
