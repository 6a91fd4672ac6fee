"""Channels to the scheduler: measured options, TLS rules, and the bearer token on every call."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import grpc.aio

from towpath import bearer, settings
from towpath.tls import TlsFiles, TlsSource

Option = tuple[str, int | str]


@dataclass(frozen=True, slots=True)
class Pace:
    """How soon a scheduler is given up that does not answer; times in milliseconds."""

    keepalive: int
    ping_timeout: int
    connect: int


# Where there is no other scheduler to turn to, patience costs nothing.
ALONE = Pace(keepalive=20_000, ping_timeout=10_000, connect=3_000)
# Schedulers take a ping every 5 s; one that comes earlier counts against its client.
AMONG_OTHERS = Pace(keepalive=6_000, ping_timeout=4_000, connect=2_000)
# A name that stands for several schedulers: its clients must not all go to the first.
SHUFFLED = '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}'

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# What the scheduler sends back may be a little larger than what it was sent: the same job, with its state.
MAX_ANSWER_BYTES = 2 * MAX_MESSAGE_BYTES


def channel_options(pace: Pace = ALONE) -> list[Option]:
    """Options for every channel: a silent peer is noticed within 30 s, a lost one is tried again every 3 s."""
    return [
        ("grpc.keepalive_time_ms", pace.keepalive),
        ("grpc.keepalive_timeout_ms", pace.ping_timeout),
        # Without this a paused peer goes unnoticed for 60 s.
        ("grpc.http2.ping_timeout_ms", pace.ping_timeout),
        ("grpc.http2.max_pings_without_data", 0),
        # An idle client, too, finds out that its connection died before its next call hangs on it.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Also how long one try to connect may take.
        ("grpc.min_reconnect_backoff_ms", pace.connect),
        ("grpc.max_reconnect_backoff_ms", 3_000),
        # Channels to one address would otherwise share one connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def aio_channel(
    address: str, token: str | bearer.Secret | None, *, tls: TlsSource | None = None, pace: Pace = ALONE
) -> grpc.aio.Channel:
    """An asyncio channel to `host:port`: plain text to this machine or where `tls` says so, TLS to all others."""
    credentials = (tls or TlsSource(TlsFiles())).credentials(address)
    interceptors = bearer.aio_interceptors(token) if token else None
    options = options_for(address, pace)
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
    return grpc.aio.secure_channel(address, credentials, options=options, interceptors=interceptors)


def sync_channel(
    address: str, token: str | bearer.Secret | None, *, tls: TlsSource | None = None, pace: Pace = ALONE
) -> grpc.Channel:
    """A blocking channel to `host:port`, safe to share among threads; TLS as for `aio_channel`."""
    credentials = (tls or TlsSource(TlsFiles())).credentials(address)
    options = options_for(address, pace)
    if credentials is None:
        channel = grpc.insecure_channel(address, options=options)
    else:
        channel = grpc.secure_channel(address, credentials, options=options)
    return grpc.intercept_channel(channel, bearer.sync_interceptor(token)) if token else channel


def options_for(address: str, pace: Pace = ALONE) -> list[Option]:
    """The channel options for this address."""
    if settings.is_loopback(address):
        # No proxy can reach this machine's own loopback.
        return [*channel_options(pace), ("grpc.enable_http_proxy", 0)]
    if settings.is_ip(settings.split(address)[0]):
        return channel_options(pace)
    return [*channel_options(pace), ("grpc.service_config", SHUFFLED)]
