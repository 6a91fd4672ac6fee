"""What a person does who calls pandas and xgboost directly: the same rows, encoded in the same way, as many threads.

It is run in a process of its own whose OpenMP threads give their core away when they wait, as the worker's children do:
beside other programs anything else is many times slower, and no measure of Towpath.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import xgboost

from towpath_worker import models
from towpath_worker.plan import SHARING
from towpath_worker.tabular import encoder, predictor, problem
from towpath_worker.tabular.evaluation import measure
from towpath_worker.tabular.split import split

PARAMETERS = {"n_estimators": 120, "max_depth": 8, "learning_rate": 0.2}
MAX_BIN, TEST_SIZE, SEED = 256, 0.2, 42


@dataclass
class Laps:
    """Seconds of each step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Take the time of a step."""
        begun = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - begun

    @property
    def total(self) -> float:
        """Of all steps."""
        return sum(self.seconds.values())


@contextmanager
def process() -> Iterator[ProcessPoolExecutor]:
    """A warm process for direct calls."""
    os.environ.update(SHARING)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def train(table: Path, target: str, threads: int, model: Path) -> Laps:
    """Read, encode, fit, measure on test rows, save: as the job type `train` does."""
    laps = Laps()
    with laps.of("load"):
        frame = pd.read_csv(table)
    with laps.of("prepare"):
        defined = problem.define(frame, target, [], "classification")
        train_rows, test_rows = split(defined.target, defined.class_count, TEST_SIZE, SEED)
        train_frame = defined.frame.iloc[train_rows]
        code = encoder.learn(train_frame, defined.kinds, "tree")
        x_train, y_train = code.transform(train_frame), defined.target[train_rows]
        x_test, y_test = code.transform(defined.frame.iloc[test_rows]), defined.target[test_rows]
    with laps.of("fit"):
        types = ["c" if is_code else "q" for is_code in code.categorical]
        rows = xgboost.QuantileDMatrix(
            x_train, y_train, feature_types=types, enable_categorical=True, max_bin=MAX_BIN, nthread=threads
        )
        settings: dict[str, Any] = {name: value for name, value in PARAMETERS.items() if name != "n_estimators"}
        settings |= {"objective": "binary:logistic", "seed": SEED, "nthread": threads, "max_bin": MAX_BIN}
        booster = xgboost.train(settings, rows, num_boost_round=int(PARAMETERS["n_estimators"]))
    with laps.of("evaluate"):
        asked = xgboost.DMatrix(x_test, feature_types=types, enable_categorical=True, nthread=threads)
        late = booster.predict(asked)
        measure(y_test, pd.DataFrame({"no": 1 - late, "yes": late}).to_numpy())
    with laps.of("save"):
        booster.save_model(model)
    return laps


def predict(folder: Path, rows: pd.DataFrame, threads: int) -> tuple[float, list[str]]:
    """Encode and predict with a model that is loaded already: seconds, and the predictions."""
    model = _loaded(folder, threads)
    begun = time.perf_counter()
    predicted = model.predict(rows)
    return time.perf_counter() - begun, predicted["prediction"].astype(str).tolist()


@functools.cache
def _loaded(folder: Path, threads: int) -> predictor.Predictor:
    return predictor.load(models.load_folder(folder, folder.name), threads)
