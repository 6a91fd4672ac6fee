"""What a scheduler itself answers: its health, whose token this is, its clock, its version."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import grpc

from towpath import Client, errors
from towpath.channel import sync_channel
from towpath.doctor.files import FoundToken
from towpath.doctor.findings import Finding, Wrong
from towpath.tls import TlsFiles, TlsSource

HEALTH = "/grpc.health.v1.Health/Check"
# HealthCheckResponse with status SERVING, without the library for it.
SERVING = b"\x08\x01"
PATIENCE = 10.0
# How far two clocks may be apart before `--at` and expiry surprise anybody.
TOLERANCE = timedelta(seconds=30)
# How many minor versions a client may be behind its scheduler.
SUPPORTED = 2
SHAPE = re.compile(r"tow_[0-9a-f]{64}")


def check_health(address: str, tls: TlsSource) -> str:
    """What to say of a scheduler that serves. Raises `Wrong`."""
    with sync_channel(address, None, tls=tls) as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HEALTH)
        try:
            answer = ask(b"", timeout=PATIENCE)
        except grpc.RpcError as error:
            raise _no_health(error) from None
    if answer != SERVING:
        raise Wrong("gRPC", "It does not serve now: it starts or stops.", "Try again in a few seconds.")
    return "It answers, and serves."


def check_calls(address: str, token: FoundToken, files: TlsFiles, *, insecure: bool) -> Iterator[Finding]:
    """Who we are there, then clock and version. Raises `Wrong`."""
    with Client(
        address,
        token.secret,
        insecure=insecure,
        tls_ca=files.ca,
        tls_cert=files.cert,
        tls_key=files.key,
        timeout=PATIENCE,
    ) as client:
        try:
            mine = client.whoami()
            words = f"It is {mine.user}'s, of the tenant {mine.tenant}: {mine.role.lower()}."
            yield Finding(address, "token", True, f"{words} {_life(mine.expire_time)}")
            before, begun = datetime.now(UTC), time.monotonic()
            server = client.server_info()
            middle = before + timedelta(seconds=(time.monotonic() - begun) / 2)
        except errors.Unauthenticated:
            raise _refused(token) from None
        except errors.PermissionDenied:
            raise Wrong(
                "token",
                f"The token in {token.place} is an invitation: it lets a worker join, and does nothing else.",
                "On the worker's machine: towpath-worker join HOST:PORT. A token for yourself: towpath tokens create",
            ) from None
        except errors.TowpathError as error:
            raise Wrong("token", error.message, "The scheduler's log may say more.") from None
    if server.server_time is not None:
        yield clock(address, middle - server.server_time)
    yield versions(address, _installed(), server.version)


def clock(address: str, ahead: timedelta) -> Finding:
    """Whether this machine's clock, so much ahead of the scheduler's, goes as that does."""
    seconds = ahead.total_seconds()
    if abs(ahead) <= TOLERANCE:
        return Finding(address, "clock", True, f"It goes as the scheduler's does ({seconds:+.1f} s).")
    words = f"This machine's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the scheduler's."
    return Finding(address, "clock", False, words, "Set the wrong one of them; let NTP keep it right.")


def versions(address: str, mine: str, theirs: str) -> Finding:
    """Whether this client and the scheduler may work together."""
    words = f"Towpath {mine or 'of no known version'} here, {theirs or 'of no known version'} there."
    ours, other = _minor(mine), _minor(theirs)
    if ours is None or other is None or ours == other:
        return Finding(address, "version", True, words)
    if ours > other:
        return Finding(address, "version", False, words, "Upgrade the scheduler: it comes before its clients.")
    if ours[0] == other[0] and other[1] - ours[1] <= SUPPORTED:
        return Finding(
            address, "version", True, f"{words} The scheduler still serves this one; upgrade it when you can."
        )
    return Finding(
        address, "version", False, words, "Upgrade Towpath here: schedulers serve the two minors before theirs."
    )


def _refused(token: FoundToken) -> Wrong:
    words = f"It refuses the token in {token.place}: it has expired, was revoked, or is of another scheduler."
    if not SHAPE.fullmatch(token.secret):
        words = f"It refuses the token in {token.place}, which does not look like one: `tow_` and 64 digits."
    return Wrong("token", words, "Copy it again, or let an admin make a new one: towpath tokens create")


def _no_health(error: Any) -> Wrong:
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Wrong("gRPC", "It speaks gRPC, but is no Towpath scheduler.", "Check host and port in --server.")
    return Wrong(
        "gRPC",
        f"It takes connections, but a call ends as {error.code().name}: {error.details() or 'without a word'}.",
        "Is there a proxy between (http_proxy, https_proxy), or is the scheduler overloaded?",
    )


def _life(end: datetime | None) -> str:
    return "It does not expire." if end is None else f"It expires on {end.astimezone():%Y-%m-%d %H:%M}."


def _installed() -> str:
    try:
        return version("towpath")
    except PackageNotFoundError:
        return ""


def _minor(text: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None
