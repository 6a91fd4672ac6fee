"""What comes over the wire: broken messages, too large ones, connections that say nothing or far too much."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import grpc

from security.attacks.ground import SECONDS, C, Fell, Skipped, Target, attack, code_of, expect
from towpath.v1 import auth_service_pb2, job_pb2, job_service_pb2

MEBIBYTE = 1 << 20
IDLERS, STREAMS, AT_ONCE = 100, 2_000, 500
# Seconds after which a connection that says nothing is to be closed, and in which others must be answered meanwhile.
IDLE, PATIENCE = 30.0, 10.0
CREATE, WHO = "/towpath.v1.JobService/CreateJob", "/towpath.v1.AuthService/WhoAmI"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RESET, SETTINGS, PING, CONTINUATION = 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4


def _deep(levels: int) -> bytes:
    return b"\x83\x7d" * levels + b"\x84\x7d" * levels


@attack("malformed messages", "200 requests of broken bytes, and groups 20,000 deep")
def malformed(target: Target) -> str:
    rng = random.Random(1)
    job = job_pb2.Job(custom=job_pb2.CustomSpec(type="attack.nothing"), queue="q" * 20)
    whole = job_service_pb2.CreateJobRequest(job=job).SerializeToString()
    create: Any = target.channel.unary_unary(CREATE)
    found = set()
    for number in range(200):
        broken = bytearray(whole)
        for _ in range(3):
            broken[rng.randrange(len(broken))] = rng.randrange(128, 256)
        raw = bytes(broken) if number else _deep(20_000)
        found.add(code_of(partial(create, raw + b"\xff", metadata=target.owner.me, timeout=SECONDS)))
    return f"{expect(found, C.INVALID_ARGUMENT)}; {target.alive()}"


@attack("large messages", "5 MiB and 30 MiB")
def large(target: Target) -> str:
    create: Any = target.channel.unary_unary(CREATE)
    found = {
        code_of(partial(create, b"\x0a" * size * MEBIBYTE, metadata=target.owner.me, timeout=SECONDS))
        for size in (5, 30)
    }
    expect(found, C.RESOURCE_EXHAUSTED)
    return f"RESOURCE_EXHAUSTED; {target.alive()}"


@attack("compression bomb", "50 MiB of zeros that take 50 KiB on the way")
def compression_bomb(target: Target) -> str:
    create: Any = target.channel.unary_unary(CREATE)
    bomb = bytes(50 * MEBIBYTE)
    found = code_of(lambda: create(bomb, metadata=target.owner.me, timeout=SECONDS, compression=grpc.Compression.Gzip))
    return f"{expect({found}, C.RESOURCE_EXHAUSTED, C.UNIMPLEMENTED, C.INTERNAL)}; {target.alive()}"


@attack("metadata bomb", "headers of 1 MiB, and 2,000 of them")
def metadata_bomb(target: Target) -> str:
    who: Any = target.channel.unary_unary(WHO)
    found = {
        code_of(lambda: who(b"", metadata=(*target.owner.me, ("x", "y" * MEBIBYTE)), timeout=SECONDS)),
        code_of(
            lambda: who(b"", metadata=(*target.owner.me, *((f"x{n}", "y" * 50) for n in range(2000))), timeout=SECONDS)
        ),
    }
    return f"{expect(found, C.RESOURCE_EXHAUSTED, C.UNAVAILABLE, C.INTERNAL)}; {target.alive()}"


def _connect(target: Target) -> socket.socket:
    host, _, port = target.address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)


def _meanwhile(target: Target) -> str:
    """Another's call, over a connection of its own. Raises `Fell` where it is not answered soon."""
    begun = time.monotonic()
    with target.dial() as channel:
        who: Any = channel.unary_unary(WHO)
        code, words = code_of(lambda: who(b"", metadata=target.owner.me, timeout=PATIENCE, wait_for_ready=True))
    if code is not C.OK:
        raise Fell(f"meanwhile another call got {code.name} {words}")
    return f"another's call took {(time.monotonic() - begun) * 1000:.0f} ms"


@attack("silent connections", f"{IDLERS} connections that say nothing")
def silent(target: Target) -> str:
    with ExitStack() as stack:
        idle = [stack.enter_context(_connect(target)) for _ in range(IDLERS)]
        meanwhile = _meanwhile(target)
        begun = time.monotonic()
        for one in idle:
            _until_closed(one, begun + IDLE)
    return f"{meanwhile}; all were closed within {time.monotonic() - begun:.0f} s"


def _until_closed(one: socket.socket, end: float) -> None:
    with suppress(ConnectionError):
        while True:
            one.settimeout(max(end - time.monotonic(), 0.01))
            try:
                if not one.recv(65536):
                    return
            except TimeoutError:
                raise Fell(f"a connection that says nothing stays open for {IDLE:.0f} s") from None


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    raw = text.encode()
    return (bytes([len(raw)]) if len(raw) < 127 else bytes([127, len(raw) - 127])) + raw


def _headers(path: str, **more: str) -> bytes:
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers"}
    fields |= {"content-type": "application/grpc", **more}
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())


def _raw(target: Target, sent: Callable[[socket.socket], None]) -> str:
    """Frames of our own on a connection of their own, while another is served."""
    if target.tls:
        raise Skipped("is tried on plain text alone")
    with _connect(target) as one, ThreadPoolExecutor(1) as beside:
        one.sendall(PREFACE + _frame(SETTINGS, 0, 0, b""))
        # The server is free to hang up.
        with suppress(ConnectionError, TimeoutError):
            sending = beside.submit(sent, one)
            meanwhile = _meanwhile(target)
            with suppress(ConnectionError, TimeoutError):
                sending.result(timeout=SECONDS)
    return f"{meanwhile}; {target.alive()}"


@attack("rapid streams", f"{STREAMS} calls that are taken back as soon as they are made")
def rapid(target: Target) -> str:
    block = _headers(WHO)

    def send(one: socket.socket) -> None:
        for number in range(STREAMS):
            stream = 2 * number + 1
            reset = _frame(RESET, 0, stream, struct.pack(">I", 8))
            one.sendall(_frame(HEADERS, END_HEADERS, stream, block) + reset)

    return _raw(target, send)


@attack("endless headers", "headers that go on in 10,000 further frames")
def endless_headers(target: Target) -> str:
    def send(one: socket.socket) -> None:
        one.sendall(_frame(HEADERS, 0, 1, _headers(WHO)))
        more = b"\x00" + _text("x") + _text("y" * 200)
        for _ in range(10_000):
            one.sendall(_frame(CONTINUATION, 0, 1, more))

    return _raw(target, send)


@attack("flood of pings", "20,000 pings and settings")
def pings(target: Target) -> str:
    def send(one: socket.socket) -> None:
        for _ in range(200):
            one.sendall((_frame(PING, 0, 0, bytes(8)) + _frame(SETTINGS, 0, 0, b"")) * 100)

    return _raw(target, send)


@attack("watcher that does not read", "asks for the health, which needs no token, and never takes the answer")
def deaf_watcher(target: Target) -> str:
    def send(one: socket.socket) -> None:
        window = _frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
        data = _frame(0, END_STREAM, 1, bytes(5))
        one.sendall(window + _frame(HEADERS, END_HEADERS, 1, _headers("/grpc.health.v1.Health/Watch")) + data)
        with target.dial() as channel:
            watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
            code, words = code_of(lambda: watch(b"", timeout=PATIENCE))
            if code is not C.OK:
                raise Fell(f"another who watches got {code.name} {words}")

    return _raw(target, send)


@attack("not gRPC", "HTTP/1.1, TLS to plain text, plain text to TLS, noise; each on 20 connections")
def not_grpc(target: Target) -> str:
    rng = random.Random(2)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200)
    for said in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", hello, rng.randbytes(2_000), PREFACE[:10], b"\0" * 100):
        with ExitStack() as stack, suppress(ConnectionError):
            for _ in range(20):
                one = stack.enter_context(_connect(target))
                one.sendall(said)
    meanwhile = _meanwhile(target)
    if not target.tls:
        return f"{meanwhile}; plain text to TLS: this server has none"
    with grpc.insecure_channel(target.address, [("grpc.use_local_subchannel_pool", 1)]) as plain:
        who: Any = plain.unary_unary(WHO)
        found = code_of(lambda: who(b"", metadata=target.owner.me, timeout=PATIENCE))
    return f"{meanwhile}; plain text to TLS: {expect({found}, C.UNAVAILABLE, C.DEADLINE_EXCEEDED)}"


@attack("wrong framing", "other content types, lengths without bytes, unknown compression")
def wrong_framing(target: Target) -> str:
    def send(one: socket.socket) -> None:
        bodies = (b"\xff" * 5, b"\0\xff\xff\xff\xff", b"\1\0\0\0\1\0", b"\0\0\0\0\0" * 3, b"")
        stream = 1
        for more in ({"content-type": "text/html"}, {"grpc-encoding": "x"}, {"grpc-timeout": "zz"}, {}):
            block = _headers(WHO) + b"".join(b"\x00" + _text(name) + _text(value) for name, value in more.items())
            for body in bodies:
                one.sendall(_frame(HEADERS, END_HEADERS, stream, block) + _frame(0, END_STREAM, stream, body))
                stream += 2

    return _raw(target, send)


@attack("many calls at once", f"{AT_ONCE:,} calls at once over one connection")
def many_calls(target: Target) -> str:
    who: Any = target.channel.unary_unary(WHO)
    raw = auth_service_pb2.WhoAmIRequest().SerializeToString()
    calls = [who.future(raw, metadata=target.owner.me, timeout=SECONDS) for _ in range(AT_ONCE)]
    meanwhile = _meanwhile(target)
    found = {code_of(call.result) for call in calls}
    return f"{meanwhile}; {expect(found, C.OK, C.RESOURCE_EXHAUSTED)}"
