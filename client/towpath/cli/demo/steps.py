"""The demo's steps, each a few calls that anybody could make."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towpath.cli.demo import flights
from towpath.cli.demo.processes import Child

if TYPE_CHECKING:
    from towpath import Client
    from towpath.results import Prediction, TrainResult
    from towpath.types import Job

START_SECONDS = 120.0
MODEL = "flights"
ROUNDS = 120
# Health.Check of grpc.health.v1: an empty request, and the field `status` = SERVING in the answer.
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"


class DemoFailed(RuntimeError):
    """A step of the demo did not succeed."""


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_serving(address: str, scheduler: Child) -> None:
    """Returns when the scheduler says that it serves."""
    import grpc

    from towpath.channel import sync_channel

    deadline = time.monotonic() + START_SECONDS
    with sync_channel(address, None) as channel:
        check: Callable[..., bytes] = channel.unary_unary(HEALTH)
        while time.monotonic() < deadline:
            scheduler.check()
            try:
                if check(b"", timeout=1, wait_for_ready=True) == SERVING:
                    return
            except grpc.RpcError:
                pass
            scheduler.check(wait=0.05)
    raise DemoFailed(f"The scheduler did not serve on {address} within {START_SECONDS:.0f} s.")


def await_worker(client: Client, worker: Child) -> None:
    """Returns when a worker is registered and ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if any(one.state == "READY" for one in client.workers()):
            return
        worker.check(wait=0.05)
    raise DemoFailed(f"The worker did not register within {START_SECONDS:.0f} s.")


def train(client: Client, table: Path, show: Callable[[Job], None]) -> TrainResult:
    """Trains on the flights, live."""
    handle = client.train(
        str(table),
        flights.TARGET,
        model_type="xgboost",
        task_type="classification",
        name=MODEL,
        hyperparameters={"n_estimators": ROUNDS, "max_depth": 8, "learning_rate": 0.2},
    )
    for job in handle:
        show(job)
    result: TrainResult = handle.result(progress=False)
    return result


def predict(client: Client, model_id: str, rows: Sequence[Mapping[str, Any]]) -> Prediction:
    """Predicts flights whose target is left out, with probabilities."""
    asked = [{name: value for name, value in row.items() if name != flights.TARGET} for row in rows]
    handle = client.predict(model_id, asked, probabilities=True)
    result: Prediction = handle.result(progress=False)
    return result


def compared(rows: Sequence[Mapping[str, Any]], predicted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each flight beside its prediction, the truth, and how far the probability was from it."""
    found = []
    for row, guess in zip(rows, predicted, strict=True):
        chance = float(guess["probability_yes"])
        found.append(
            {
                "flight": f"{row['carrier']}{row['flight']:.0f}",
                "from": row["origin"],
                "to": row["dest"],
                "left late by": "" if row["dep_delay"] is None else f"{row['dep_delay']:.0f} min",
                "late?": str(guess["prediction"]),
                "probability": chance,
                "in truth": row[flights.TARGET],
                "error": abs(chance - (row[flights.TARGET] == "yes")),
            }
        )
    return found
