"""Whose turn it is among several replicas, without any socket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.rpc import status_pb2

from support.fake_jobs import info
from towpath.channel import AMONG_OTHERS, options_for
from towpath.replicas import Replicas
from towpath_server.rpc.server import server_options


def test_clients_spread() -> None:
    places = [Replicas(["a:1", "b:1", "c:1"]) for _ in range(200)]
    assert {one.turn.address for one in places} == {"a:1", "b:1", "c:1"}


def test_pings_come_no_sooner_than_a_scheduler_takes_them() -> None:
    options = dict(server_options())
    assert AMONG_OTHERS.keepalive > options["grpc.http2.min_ping_interval_without_data_ms"]
    assert options["grpc.keepalive_permit_without_calls"] == 1


def test_how_soon_one_of_several_is_given_up() -> None:
    options = dict(options_for("there:1", AMONG_OTHERS))
    silent = options["grpc.keepalive_time_ms"], options["grpc.keepalive_timeout_ms"]
    assert silent == (6_000, options["grpc.http2.ping_timeout_ms"]) == (6_000, 4_000)
    assert options["grpc.min_reconnect_backoff_ms"] == 2_000


@dataclass(frozen=True)
class Failure:
    """What grpc says of a failed call."""

    status: grpc.StatusCode
    metadata: Sequence[tuple[str, bytes]] = ()

    def code(self) -> grpc.StatusCode:
        """Its code."""
        return self.status

    def trailing_metadata(self) -> Sequence[tuple[str, bytes]]:
        """Where the details are."""
        return self.metadata


def spoken(code: grpc.StatusCode, reason: str) -> Failure:
    """What a scheduler itself says."""
    status = status_pb2.Status(code=code.value[0])
    status.details.add().Pack(info(reason))
    return Failure(code, (("grpc-status-details-bin", status.SerializeToString()),))


GONE = Failure(grpc.StatusCode.UNAVAILABLE)
STORELESS = spoken(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


def test_many_calls_that_fail_together_leave_one_replica_only() -> None:
    ring = Replicas(["a:1", "b:1", "c:1"])
    first = ring.turn
    ring.failed(first, GONE, 5.0)
    second = ring.turn
    for _ in range(10):
        ring.failed(first, GONE, 5.0)
    assert ring.turn is second
    assert second.address != first.address


def test_which_failures_mean_that_a_replica_is_not_well() -> None:
    now = [0.0]
    ring = Replicas(["a:1", "b:1"], clock=lambda: now[0])
    for harmless in (
        Failure(grpc.StatusCode.CANCELLED),
        Failure(grpc.StatusCode.INTERNAL),
        spoken(grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"),
        spoken(grpc.StatusCode.UNAVAILABLE, "SLOW_CONSUMER"),
        STORELESS,
    ):
        ring.failed(ring.turn, harmless, 30.0)
    # Who gave a call little time, or watched for a while, learns nothing from its end.
    ring.failed(ring.turn, Failure(grpc.StatusCode.DEADLINE_EXCEEDED), 1.0)
    ring.failed(ring.turn, Failure(grpc.StatusCode.DEADLINE_EXCEEDED), None)
    assert ring.turn.number == 0
    ring.failed(ring.turn, Failure(grpc.StatusCode.DEADLINE_EXCEEDED), 30.0)
    assert ring.turn.number == 1
    # Most often no replica reaches the store: they are not all to be gone round at once.
    ring.failed(ring.turn, STORELESS, 30.0)
    assert ring.turn.number == 1
    now[0] = 11.0
    ring.failed(ring.turn, STORELESS, 30.0)
    assert ring.turn.number == 2


def test_patience_grows_once_all_were_given_up_soon() -> None:
    ring = Replicas(["a:1", "b:1"])
    assert not ring.untried
    ring.failed(ring.turn, GONE, None)
    assert (ring.untried, ring.pace) == (True, AMONG_OTHERS)
    ring.failed(ring.turn, GONE, None)
    assert not ring.untried
    assert ring.pace.connect > AMONG_OTHERS.connect
    ring.answered(ring.turn)
    assert ring.pace == AMONG_OTHERS
