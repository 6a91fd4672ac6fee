"""Stalls of the event loop: who is named, who is not, and how often."""

from __future__ import annotations

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from towpath_server.stalls import QUIET, STALL, Cause, Stall, StallWatch, Teller, cause, innermost


class Witness:
    """Looks where the loop is, and lets the one who blocks it go then, and no sooner."""

    def __init__(self) -> None:
        self.looked = threading.Event()
        self.told: asyncio.Queue[Stall] = asyncio.Queue()
        self.loop = asyncio.get_running_loop()

    def where(self, thread: int) -> tuple[str, ...]:
        frames = innermost(thread)
        self.looked.set()
        return frames

    def tell(self, stall: Stall) -> None:
        self.loop.call_soon_threadsafe(self.told.put_nowait, stall)


def blocks_the_loop(witness: Witness) -> None:
    assert witness.looked.wait(30)


async def test_the_callback_that_blocks_is_named() -> None:
    witness = Witness()
    watch = StallWatch(lambda task: task.get_name() if task else None, where=witness.where, tell=witness.tell)
    watch.start()
    try:

        async def serve() -> None:
            blocks_the_loop(witness)

        await asyncio.create_task(serve(), name="/towpath.v1.JobService/CreateJob")
        stall = await witness.told.get()
    finally:
        watch.stop()
    assert stall.cause is not Cause.STANDSTILL
    assert any(frame.endswith(" blocks_the_loop") for frame in stall.frames)
    assert stall.serving == "/towpath.v1.JobService/CreateJob"
    assert stall.seconds >= STALL


@pytest.mark.parametrize(
    ("waited", "cpu", "why"),
    [
        # The watch came in time: whether the callback computed or waited for something.
        (STALL, 0.05, Cause.CALLBACK),
        (STALL, 0.0, Cause.CALLBACK),
        # It came late as well. Stopped for 5 s, or for a moment: nobody computed.
        (5.0, 0.001, Cause.STANDSTILL),
        (0.08, 0.01, Cause.STANDSTILL),
        # Somebody did, and let nobody else.
        (1.0, 0.98, Cause.INTERPRETER),
    ],
)
def test_a_process_that_was_stopped_is_not_blamed_on_a_callback(waited: float, cpu: float, why: Cause) -> None:
    assert cause(waited, STALL, cpu) is why


async def test_a_loop_that_has_nothing_to_do_is_between_two_callbacks() -> None:
    looked: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
    loop, ident = asyncio.get_running_loop(), threading.get_ident()

    def look() -> None:
        # The loop sleeps until this thread wakes it.
        loop.call_soon_threadsafe(looked.set_result, innermost(ident))

    timer = threading.Timer(0.0, look)
    timer.start()
    frames = await looked
    timer.join()
    assert not any("towpath" in frame for frame in frames)


def test_there_is_one_line_in_a_while_and_it_counts_the_others() -> None:
    now = 100.0
    teller = Teller(lambda: now)
    stall = Stall(
        0.2, 0.19, Cause.CALLBACK, ("towpath_server.rpc.jobs:40 CreateJob",), "/towpath.v1.JobService/CreateJob"
    )
    with capture_logs() as logs:
        for _ in range(4):
            teller.tell(stall)
        now += QUIET
        teller.tell(Stall(3.0, 0.0, Cause.STANDSTILL))
    assert [(line["event"], line["untold"]) for line in logs] == [("event_loop_stalled", 0), ("process_stood_still", 3)]
    assert logs[0]["frames"] == stall.frames
    assert logs[0]["serving"] == stall.serving
