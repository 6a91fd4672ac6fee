"""Random forests and histogram gradient boosting, told of batch by batch and round by round."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from towpath_worker.tabular.estimators.base import Data, Fitted, Matrix, Settings, loss
from towpath_worker.tabular.estimators.sklearn_files import SklearnEstimator

#: Leaves of a forest are kept at least so large that no tree has more than about so many.
FOREST_LEAVES = 20_000
STEPS = 20
BATCH = 20
VALIDATION_ROWS = 20_000


def fit_random_forest(data: Data, settings: Settings) -> Fitted:
    """Trains a random forest. Where nothing is said about its size, leaves grow with the table, to keep files small."""
    parameters = dict(settings.parameters)
    if not {"min_samples_leaf", "max_depth", "max_leaf_nodes"} & parameters.keys():
        parameters["min_samples_leaf"] = max(1, len(data.y_train) // FOREST_LEAVES)
    kind = RandomForestClassifier if data.class_count else RandomForestRegressor
    model = kind(
        **{name: value for name, value in parameters.items() if name != "n_estimators"},
        n_estimators=1,
        random_state=settings.seed,
        n_jobs=settings.threads,
        warm_start=True,
    )
    estimator = SklearnEstimator(model, data.class_count)
    trees = int(parameters["n_estimators"])
    rows, target = data.sample()
    batch = max(settings.threads, min(BATCH, math.ceil(trees / STEPS)))
    for grown in range(batch, trees + batch, batch):
        model.set_params(n_estimators=min(grown, trees))
        model.fit(data.x_train, data.y_train)
        settings.report(min(grown, trees), trees, lambda: {data.metric: loss(target, estimator.predict(rows))})
    model.set_params(warm_start=False)
    notes = (
        ["early_stopping_rounds has no meaning for a random forest, ignored"] if settings.early_stopping_rounds else []
    )
    return Fitted(estimator, parameters, notes)


def fit_gradient_boosting(data: Data, settings: Settings) -> Fitted:
    """Trains histogram gradient boosting; early stopping looks at test rows."""
    parameters = dict(settings.parameters)
    rounds, patience = int(parameters["max_iter"]), settings.early_stopping_rounds
    watched, target = data.sample(VALIDATION_ROWS)
    kind = HistGradientBoostingClassifier if data.class_count else HistGradientBoostingRegressor
    model = kind(
        **parameters,
        categorical_features=data.categorical if any(data.categorical) else None,
        random_state=settings.seed,
        # The scorer is the only thing that is called in each round.
        early_stopping=True,
        scoring=_Watch(data, settings, rounds),
        n_iter_no_change=patience or rounds + 1,
        tol=0.0,
    )
    model.fit(data.x_train, data.y_train, X_val=watched, y_val=target)
    notes = []
    if model.n_iter_ < rounds:
        best = int(np.argmax(model.validation_score_))
        notes.append(f"stopped early after {model.n_iter_} of {rounds} rounds: round {best} was the best")
    model.set_params(scoring="loss", early_stopping=False, n_iter_no_change=10)
    model._scorer = None
    return Fitted(SklearnEstimator(model, data.class_count), parameters, notes)


class _Watch:
    """Called before the first round and after each one, with training rows and then with the watched rows."""

    def __init__(self, data: Data, settings: Settings, rounds: int) -> None:
        self._data, self._settings, self._rounds, self._calls = data, settings, rounds, 0

    def __call__(self, model: Any, rows: Any, target: Matrix) -> float:
        self._calls += 1
        if self._calls % 2:
            return 0.0
        current = loss(target, model.predict_proba(rows) if self._data.class_count else model.predict(rows))
        done = self._calls // 2 - 1
        if done:
            self._settings.report(done, self._rounds, lambda: {self._data.metric: current})
        return -current
