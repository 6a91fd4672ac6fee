"""XGBoost: histogram trees with native categories; stored as UBJSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost

from towpath_worker.errors import InvalidInput
from towpath_worker.tabular.estimators.base import Data, Fitted, Matrix, Settings

FILE = "model.ubj"
Error = xgboost.core.XGBoostError


class XgboostEstimator:
    """A booster on encoded columns."""

    def __init__(self, booster: xgboost.Booster, categorical: list[bool], class_count: int) -> None:
        self.booster, self.categorical, self.class_count = booster, categorical, class_count

    def predict(self, matrix: Matrix) -> Matrix:
        """Probabilities, float64 (rows, classes); for regression numbers, float64 (rows,)."""
        table = xgboost.DMatrix(matrix, feature_types=_types(self.categorical), enable_categorical=True)
        predicted = np.asarray(self.booster.predict(table, validate_features=False), dtype="float64")
        return np.column_stack([1 - predicted, predicted]) if self.class_count == 2 else predicted

    def weights(self) -> Matrix:
        """The loss that each column's splits took away, summed (total gain)."""
        gains = self.booster.get_score(importance_type="total_gain")
        return np.array([float(np.sum(gains.get(f"f{index}", 0.0))) for index in range(len(self.categorical))])

    def coefficients(self) -> None:
        """None: it is no linear model."""

    def dump(self) -> tuple[bytes, dict[str, Any]]:
        """UBJSON, and which columns hold codes."""
        stored = {"categorical": self.categorical, "class_count": self.class_count}
        return bytes(self.booster.save_raw("ubj")), stored


def load(content: bytes, stored: Mapping[str, Any], threads: int) -> XgboostEstimator:
    """The booster of a `dump`. Raises InvalidInput for what is no UBJSON object: XGBoost may end the process."""
    if not (content.startswith(b"{") and content.endswith(b"}")):
        raise InvalidInput("the model's file is not one that XGBoost has written: train it again")
    booster = xgboost.Booster({"nthread": threads})
    booster.load_model(bytearray(content))
    return XgboostEstimator(booster, list(stored["categorical"]), int(stored["class_count"]))


def fit(data: Data, settings: Settings) -> Fitted:
    """Trains round by round; each round is reported with the metric of the test rows."""
    parameters = dict(settings.parameters)
    rounds = int(parameters["n_estimators"])
    types, max_bin = _types(data.categorical), int(parameters["max_bin"])
    train = xgboost.QuantileDMatrix(
        data.x_train,
        data.y_train,
        feature_types=types,
        enable_categorical=True,
        max_bin=max_bin,
        nthread=settings.threads,
    )
    # To measure all test rows after each round takes as long as two fifths of the training: only a stop needs that.
    stops = settings.early_stopping_rounds > 0
    x_test, y_test = (data.x_test, data.y_test) if stops else data.sample()
    test = xgboost.QuantileDMatrix(
        x_test, y_test, ref=train, feature_types=types, enable_categorical=True, max_bin=max_bin
    )
    callbacks: list[xgboost.callback.TrainingCallback] = [_Reporter(settings, rounds, test)]
    if stops:
        callbacks.append(xgboost.callback.EarlyStopping(rounds=settings.early_stopping_rounds, save_best=True))
    booster = xgboost.train(
        {
            **_objective(data.class_count),
            **{name: value for name, value in parameters.items() if name != "n_estimators"},
            "seed": settings.seed,
            "nthread": settings.threads,
            "verbosity": 0,
        },
        train,
        num_boost_round=rounds,
        evals=[(test, "test")] if stops else [],
        verbose_eval=False,
        callbacks=callbacks,
    )
    booster.set_param({"nthread": settings.threads})
    notes = []
    if booster.num_boosted_rounds() < rounds:
        notes.append(f"stopped early: the best of {rounds} rounds was round {booster.num_boosted_rounds()}")
    return Fitted(XgboostEstimator(booster, data.categorical, data.class_count), parameters, notes)


def _types(categorical: list[bool]) -> list[str]:
    return ["c" if is_code else "q" for is_code in categorical]


def _objective(class_count: int) -> dict[str, Any]:
    if class_count == 0:
        return {"objective": "reg:squarederror", "eval_metric": "rmse"}
    if class_count == 2:
        return {"objective": "binary:logistic", "eval_metric": "logloss"}
    return {"objective": "multi:softprob", "num_class": class_count, "eval_metric": "mlogloss"}


class _Reporter(xgboost.callback.TrainingCallback):
    """Tells of each round; what it is like is looked at only where somebody is to be told."""

    def __init__(self, settings: Settings, rounds: int, test: xgboost.QuantileDMatrix) -> None:
        super().__init__()
        self._settings, self._rounds, self._test = settings, rounds, test

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        def figures() -> dict[str, float]:
            if "test" in evals_log:
                return {name: float(values[-1]) for name, values in evals_log["test"].items()}
            # As xgboost writes it: [7]<tab>test-logloss:0.25
            told = [word.split(":") for word in model.eval_set([(self._test, "test")], epoch).split("\t")[1:]]
            return {name.removeprefix("test-"): float(value) for name, value in told}

        self._settings.report(epoch + 1, self._rounds, figures)
        return False
