"""What goes through the pipes to child processes comes out as it was, wherever it was cut."""

from __future__ import annotations

import asyncio
import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath_worker import frames
from towpath_worker.frames import Feed, Kind
from towpath_worker.pipes import Reader, Writer

FRAMES = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=50)), max_size=10)


@given(FRAMES, st.lists(st.integers(0, 600), max_size=10))
def test_frames_come_whole_out_of_any_pieces(given_frames: list[tuple[Kind, bytes]], cuts: list[int]) -> None:
    data = b"".join(frames.encode(kind, payload) for kind, payload in given_frames)
    ends = [0, *sorted(cuts), len(data)]
    feed = Feed()
    taken = [frame for start, end in itertools.pairwise(ends) for frame in feed.take(data[start:end])]
    assert taken == given_frames


def test_a_frame_of_no_kind_is_refused() -> None:
    for data in (b"\xff" * 5, frames.HEADER.pack(99, 0)):
        with pytest.raises(ValueError, match=r"claims|99"):
            list(Feed().take(data))


async def test_more_than_a_pipe_holds_goes_through_in_order() -> None:
    reader, writer = os.pipe()
    heard = bytearray()
    ended = asyncio.Event()

    def hear(data: bytes) -> None:
        heard.extend(data)
        if not data:
            ended.set()

    outgoing = Writer(writer)
    large, small = os.urandom(1_000_000), b"small"
    first = asyncio.create_task(outgoing.write(large))
    await asyncio.sleep(0)
    second = asyncio.create_task(outgoing.write(small))
    Reader(reader, hear)
    await first
    await second
    outgoing.close()
    await asyncio.wait_for(ended.wait(), 10)
    assert heard == large + small


async def test_whoever_waits_for_room_hears_that_nobody_reads_any_more() -> None:
    for end in ("reader", "writer"):
        reader, writer = os.pipe()
        outgoing = Writer(writer)
        waiting = asyncio.create_task(outgoing.write(bytes(1_000_000)))
        await asyncio.sleep(0)
        if end == "reader":
            os.close(reader)
        else:
            outgoing.close()
        with pytest.raises(BrokenPipeError):
            await asyncio.wait_for(waiting, 10)
        outgoing.close()
        if end == "writer":
            os.close(reader)
