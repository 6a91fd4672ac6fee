"""ReportJobs: reports come in, acks and orders go out, each at its own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from towpath.v1 import worker_service_pb2 as pb
from towpath_server.core.errors import InvalidArgument, SessionUnknown, Violation
from towpath_server.core.records import Principal
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.reports import split
from towpath_server.rpc.convert.workers import directive_to_proto
from towpath_server.scheduler.connection import Connection
from towpath_server.scheduler.messages import Directive, DirectiveType, Heartbeat
from towpath_server.scheduler.workers import Workers

# How many batches of reports may wait for their commit before more is read.
MOST_IN_FLIGHT = 64


async def report_jobs(
    workers: Workers, principal: Principal, incoming: AsyncIterator[pb.ReportJobsRequest]
) -> AsyncGenerator[pb.ReportJobsResponse]:
    """Serve one stream of a session. A session that is not known is told to register again."""
    first = await anext(incoming, None)
    if first is None:
        return
    worker_id = _worker_id(first)
    try:
        stream = ReportStream(workers.connect(principal, worker_id, first.session_id))
    except SessionUnknown:
        yield _answer(0, [Directive(DirectiveType.REREGISTER)])
        return
    async with aclosing(stream.serve(first, incoming)) as answers:
        async for answer in answers:
            yield answer


class ReportStream:
    """One stream: a task that reads, one that waits for orders, and whoever iterates over the answers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pending: deque[asyncio.Future[int]] = deque()
        self._orders: list[Directive] = []
        self._news = asyncio.Event()
        self._room = asyncio.Semaphore(MOST_IN_FLIGHT)

    async def serve(
        self, first: pb.ReportJobsRequest, incoming: AsyncIterator[pb.ReportJobsRequest]
    ) -> AsyncGenerator[pb.ReportJobsResponse]:
        """The answers, until the worker ends its stream and all that it told is on disk, or the session is over."""
        reading = asyncio.ensure_future(self._read(first, incoming))
        listening = asyncio.ensure_future(self._listen())
        for task in (reading, listening):
            task.add_done_callback(lambda _: self._news.set())
        try:
            async for answer in self._answers(reading, listening):
                yield answer
        finally:
            # What was taken in is committed all the same; nobody waits for it here any more.
            await _end(reading, listening)

    async def _answers(
        self, reading: asyncio.Future[None], listening: asyncio.Future[None]
    ) -> AsyncIterator[pb.ReportJobsResponse]:
        acked = 0
        while True:
            await self._news.wait()
            self._news.clear()
            # Asked before the acks are taken: what ends while an answer is written is seen the next time.
            over = reading.done()
            try:
                newest = max(acked, self._take_acks())
                for task in (reading, listening):
                    if task.done():
                        task.result()
            except SessionUnknown:
                self._orders.append(Directive(DirectiveType.REREGISTER))
                newest = acked
            orders, self._orders = self._connection.with_verdicts(self._orders, newest), []
            if newest > acked or orders:
                acked = newest
                yield _answer(acked, orders)
            if any(order.type is DirectiveType.REREGISTER for order in orders) or (over and not self._pending):
                return

    async def _read(self, first: pb.ReportJobsRequest, incoming: AsyncIterator[pb.ReportJobsRequest]) -> None:
        await self._take(first)
        async for message in incoming:
            await self._take(message)

    async def _take(self, message: pb.ReportJobsRequest) -> None:
        for part in split(message):
            if isinstance(part, Heartbeat):
                self._connection.heartbeat(part)
                continue
            await self._room.acquire()
            commit = self._connection.report(part)
            commit.add_done_callback(self._committed)
            self._pending.append(commit)

    async def _listen(self) -> None:
        while True:
            # Awaited first: `+=` would take the list from before the wait, with all that was told meanwhile.
            fresh = await self._connection.orders()
            self._orders += fresh
            self._news.set()

    def _committed(self, commit: asyncio.Future[int]) -> None:
        # Looked at, so that an exception that nobody waits for any more is not complained of.
        _ = commit.cancelled() or commit.exception()
        self._room.release()
        self._news.set()

    def _take_acks(self) -> int:
        newest = 0
        while self._pending and self._pending[0].done():
            newest = max(newest, self._pending.popleft().result())
        return newest


async def _end(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _worker_id(first: pb.ReportJobsRequest) -> int:
    worker_id = ids.read(ids.WORKER, first.worker_id)
    wrong = []
    if not worker_id:
        wrong.append(Violation("worker_id", "is required in the first message: the worker's id"))
    if not first.session_id:
        wrong.append(Violation("session_id", "is required in the first message: from RegisterWorker"))
    if wrong:
        raise InvalidArgument(tuple(wrong))
    return worker_id


def _answer(acked: int, orders: list[Directive]) -> pb.ReportJobsResponse:
    return pb.ReportJobsResponse(acked_sequence=acked, directives=[directive_to_proto(order) for order in orders])
