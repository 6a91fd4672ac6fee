"""What a server takes from anybody who can connect: its limits over a real socket, and that others are served on."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import grpc
import psutil
import pytest

from support import http2
from support.certificates import Authority
from support.processes import Scheduler, scheduler
from support.rpc_stage import stage
from towpath import Client
from towpath_server.rpc.server import MAX_METADATA_BYTES, MAX_STREAMS, make_server

WHOAMI = "/towpath.v1.AuthService/WhoAmI"
CREATE = "/towpath.v1.JobService/CreateJob"
REPORTS = "/towpath.v1.WorkerService/ReportJobs"
RESOURCE_EXHAUSTED = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]).encode()
# What stands in a header of a length of its own in HPACK: its name, the length, the value.
REFUSED = b"grpc-status\x01" + RESOURCE_EXHAUSTED
UNAUTHENTICATED = b"grpc-status\x02" + str(grpc.StatusCode.UNAUTHENTICATED.value[0]).encode()
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    with scheduler(tmp_path_factory.mktemp("scheduler"), "--store", "memory:") as running:
        yield running


@pytest.fixture(autouse=True)
def _others_are_served_on(at: Scheduler) -> Iterator[None]:
    with Client(at.address, at.token) as client:
        client.stats()
        yield
        client.stats()
    assert at.process.poll() is None


@contextmanager
def connected(at: Scheduler) -> Iterator[tuple[socket.socket, IO[bytes]]]:
    """A connection, and what comes on it."""
    host, _, port = at.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as opened, opened.makefile("rb") as answer:
        yield opened, answer


def bearer(at: Scheduler) -> dict[str, str]:
    return {"authorization": f"Bearer {at.token}"}


def headers_of(answer: IO[bytes]) -> bytes:
    """The first headers that the server sends: a refusal is told in them alone."""
    while True:
        kind, held = http2.read_whole_frame(answer)
        if kind == http2.HEADERS:
            return held


def farewell_of(answer: IO[bytes]) -> bytes:
    """What the server says as it closes the connection; empty where it says nothing."""
    said = b""
    try:
        while True:
            kind, held = http2.read_whole_frame(answer)
            said = held[8:] if kind == http2.GOAWAY else said
    except (EOFError, ConnectionError):
        return said


async def test_who_says_nothing_is_cut_off(at: Scheduler, tmp_path: Path) -> None:
    async def until_it_is(port: int, said: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        async with asyncio.timeout(15):
            with suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            writer.close()

    plain = int(at.address.rpartition(":")[2])
    async with stage() as made:
        server = make_server(made.scheduler, tls=Authority(tmp_path).server().pair)
        await server.start()
        # A TLS record that would be of 512 bytes.
        beginnings = ((plain, b""), (plain, http2.PREFACE[:10]), (server.port, b""), (server.port, b"\x16\x03\x01\x02"))
        await asyncio.gather(*(until_it_is(*one) for one in beginnings))
        await server.stop(0)


def test_the_limits_are_told_to_each_client(at: Scheduler) -> None:
    with connected(at) as (_, answer):
        kind, held = http2.read_whole_frame(answer)
    assert kind == http2.SETTINGS
    told = dict(struct.iter_unpack(">HI", held))
    assert told[3] == MAX_STREAMS == 20_000
    assert told[6] == MAX_METADATA_BYTES == 8192


@pytest.mark.parametrize("size", [9_000, 1_000_000])
def test_metadata_too_large_is_refused(at: Scheduler, size: int) -> None:
    with grpc.insecure_channel(at.address) as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(WHOAMI)
        assert ask(b"", metadata=(*bearer(at).items(), ("x", "y" * 7_000)), timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"", metadata=(*bearer(at).items(), ("x", "y" * size)), timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ask(b"", metadata=tuple(bearer(at).items()), timeout=20)


@pytest.mark.parametrize("method", [CREATE, REPORTS])
def test_what_would_inflate_beyond_the_limit_is_refused_with_little_memory(at: Scheduler, method: str) -> None:
    # As much as may be sent before the server has said more: 60 MB in 60 kB.
    bomb = gzip.compress(bytes(60 * MIB))
    assert len(bomb) < 65_000
    before = peak(at)

    def throw(_: int) -> bytes:
        with connected(at) as (opened, answer):
            opened.sendall(http2.opening(method, at.address, {**bearer(at), "grpc-encoding": "gzip"}))
            sent = b"\x01" + struct.pack(">I", len(bomb)) + bomb
            for start in range(0, len(sent), 16_384):
                opened.sendall(http2.frame(http2.DATA, 0, http2.STREAM, sent[start : start + 16_384]))
            return headers_of(answer)

    with ThreadPoolExecutor(6) as threads:
        assert all(is_refusal(one) for one in threads.map(throw, range(6)))
    assert peak(at) - before < 40 * MIB


def test_a_message_without_end_is_cut_off_with_little_memory(at: Scheduler) -> None:
    before = peak(at)
    with connected(at) as (opened, answer):
        opened.sendall(http2.opening(CREATE, at.address, bearer(at)))
        opened.sendall(http2.frame(http2.DATA, 0, http2.STREAM, b"\x00\xff\xff\xff\xff" + bytes(16_000)))
        assert is_refusal(headers_of(answer))
    assert peak(at) - before < 20 * MIB


@pytest.mark.parametrize("method", [WHOAMI, CREATE, REPORTS])
@pytest.mark.parametrize("shown", [{}, {"authorization": "Bearer tow_nobody"}])
def test_who_shows_no_token_is_refused_before_a_message_is_waited_for(
    at: Scheduler, method: str, shown: dict[str, str]
) -> None:
    with connected(at) as (opened, answer):
        opened.sendall(http2.greeting() + http2.headers(method, at.address, shown))
        assert UNAUTHENTICATED in headers_of(answer)


def test_calls_that_are_given_up_at_once_keep_nobody_from_others(at: Scheduler) -> None:
    with connected(at) as (opened, _):
        opened.sendall(http2.greeting())
        for stream in range(1, 6_001, 2):
            whose = bearer(at) if stream % 4 == 1 else {}
            opened.sendall(http2.headers(WHOAMI, at.address, whose, stream=stream) + http2.reset(stream))
        with Client(at.address, at.token) as client:
            client.stats()


def test_floods_of_frames_keep_nobody_from_others(at: Scheduler) -> None:
    endless = b"".join(
        http2.frame(http2.CONTINUATION, 0, http2.STREAM, http2.field(f"x-{number}", "y" * 100))
        for number in range(2_000)
    )
    before = peak(at)
    for flood in (
        http2.frame(http2.SETTINGS, 0, 0, b"") * 20_000,
        http2.frame(http2.HEADERS, 0, http2.STREAM, b"") + endless,
    ):
        with connected(at) as (opened, _):
            opened.sendall(http2.greeting())
            # It may be cut off.
            with suppress(ConnectionError):
                opened.sendall(flood)
            with Client(at.address, at.token) as client:
                client.stats()
    assert peak(at) - before < 60 * MIB


def test_who_pings_without_end_is_cut_off(at: Scheduler) -> None:
    with connected(at) as (opened, answer):
        opened.sendall(http2.greeting() + http2.frame(http2.PING, 0, 0, bytes(8)) * 100)
        assert b"too_many_pings" in farewell_of(answer)


def is_refusal(block: bytes) -> bool:
    return REFUSED in block


def peak(at: Scheduler) -> int:
    """The most memory that the scheduler has ever had, in bytes."""
    status = Path(f"/proc/{at.process.pid}/status")
    if not status.is_file():
        # Not a peak, but nearly as good while it is under way.
        return int(psutil.Process(at.process.pid).memory_info().rss)
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
