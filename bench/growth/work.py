"""What Towpath adds to real work: training and predicting on the flights, against the same by direct calls.

A direct call has its imports behind it, as the worker's warm child has. Threads are as many as the machine has cores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

from bench.figures import Scale
from bench.growth import direct
from bench.growth.overhead import PHASES
from bench.programs import scheduler, scratch, worker
from towpath import Client
from towpath.cli.demo import flights
from towpath.tables import to_inline, to_pandas
from towpath_worker import models

ASKED_ROWS = 100_000
TRIES = 3


def measure(scale: Scale) -> dict[str, float]:
    """Both by turns; of each the best."""
    threads = os.cpu_count() or 1
    with scratch() as folder:
        table = folder / "data" / "flights.csv"
        table.parent.mkdir()
        flights.write(table, scale.count(flights.ROWS, 1_000))
        with (
            scheduler(folder) as at,
            worker(at, "--slots", "1", "--data-dir", str(table.parent), "--allow", "train,predict"),
            Client(at.address, at.token) as client,
            direct.process() as alone,
        ):
            # The first of each warms up: the child's imports, the files in the system's cache.
            figures, model_id = _train(client, alone, table, threads)
            asked = pd.read_csv(table, nrows=scale.count(ASKED_ROWS, 500)).drop(columns=flights.TARGET)
            return figures | _predict(client, alone, _folder(folder / "worker", model_id), model_id, asked, threads)


def _train(client: Client, alone: ProcessPoolExecutor, table: Path, threads: int) -> tuple[dict[str, float], str]:
    through: list[tuple[float, Mapping[str, float]]] = []
    by_hand: list[direct.Laps] = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        handle = client.train(
            str(table),
            flights.TARGET,
            model_type="xgboost",
            task_type="classification",
            hyperparameters=direct.PARAMETERS,
        )
        result = handle.result(progress=False)
        through.append((time.perf_counter() - begun, result.durations))
        by_hand.append(alone.submit(direct.train, table, flights.TARGET, threads, table.with_suffix(".ubj")).result())
    wall, durations = min(through, key=lambda one: one[0])
    best = min(by_hand, key=lambda laps: laps.total)
    figures = {
        "train.towpath": wall,
        "train.direct": best.total,
        "train.overhead": _more(wall, best.total),
        "train.fit.overhead": _more(durations["fit"], best.seconds["fit"]),
        "train.around": wall - sum(durations.values()),
    }
    for phase in PHASES:
        figures |= {f"train.{phase}.towpath": durations[phase], f"train.{phase}.direct": best.seconds[phase]}
    return figures, result.model_id


def _folder(state: Path, model_id: str) -> Path:
    (folder,) = {path.parent for path in state.rglob(models.MANIFEST) if model_id in path.read_text(encoding="utf-8")}
    return folder


def _predict(
    client: Client, alone: ProcessPoolExecutor, folder: Path, model_id: str, asked: pd.DataFrame, threads: int
) -> dict[str, float]:
    through: list[tuple[float, Mapping[str, float]]] = []
    local = []
    for _ in range(TRIES + 1):
        begun = time.perf_counter()
        prediction = client.predict(model_id, asked).result(progress=False)
        answered = prediction.to_pandas()
        through.append((time.perf_counter() - begun, prediction.durations))
        seconds, expected = alone.submit(direct.predict, folder, asked, threads).result()
        local.append(seconds)
        assert answered["prediction"].astype(str).tolist() == expected
    wall, durations = min(through, key=lambda one: one[0])
    message = _best(lambda: to_inline(asked)) + _best(lambda: to_pandas(to_inline(answered)))
    return {
        "predict.towpath": wall,
        "predict.direct": min(local),
        "predict.overhead": _more(wall, min(local)),
        **{f"predict.{phase}": durations[phase] for phase in ("load", "predict", "write")},
        "predict.encode": message,
        "predict.around": wall - sum(durations.values()) - message,
    }


def _more(value: float, than: float) -> float:
    """By how many percent."""
    return (value / than - 1) * 100


def _best(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return min(taken)
