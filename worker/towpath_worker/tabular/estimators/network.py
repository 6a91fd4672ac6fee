"""Neural networks: scikit-learn's multilayer perceptron, one epoch at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from towpath_worker.errors import InvalidInput
from towpath_worker.tabular.estimators.base import Data, Fitted, Settings, loss
from towpath_worker.tabular.estimators.sklearn_files import SklearnEstimator

#: How many gradient steps a training has where neither epochs nor batch_size are given.
STEPS = 3_000
VALIDATION_ROWS = 20_000


def fit(data: Data, settings: Settings) -> Fitted:
    """Trains by mini-batches; with early stopping the weights of the best epoch are kept."""
    parameters = _complete(dict(settings.parameters), len(data.y_train))
    estimator, target = _start(data, parameters, settings.seed)
    classes = {"classes": np.arange(data.class_count)} if data.class_count else {}
    epochs, patience = int(parameters["epochs"]), settings.early_stopping_rounds
    sample, watched = data.sample(), data.sample(VALIDATION_ROWS)
    best, best_epoch, best_weights, notes = math.inf, 0, _weights(estimator.model), []
    for epoch in range(1, epochs + 1):
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                estimator.model.partial_fit(data.x_train, target, **classes)
        except ValueError as error:
            raise InvalidInput(f"the network's weights grew without bound: lower learning_rate ({error})") from None
        settings.report(epoch, epochs, lambda: {data.metric: loss(sample[1], estimator.predict(sample[0]))})
        if patience:
            current = loss(watched[1], estimator.predict(watched[0]))
            if current < best:
                best, best_epoch, best_weights = current, epoch, _weights(estimator.model)
            elif epoch - best_epoch >= patience:
                break
    if patience and best_weights:
        estimator.model.coefs_, estimator.model.intercepts_ = best_weights
        notes += [f"stopped early: the best of {epochs} epochs was epoch {best_epoch}"] if best_epoch < epochs else []
    _strip(estimator.model, settings.seed)
    return Fitted(estimator, parameters, notes)


def _complete(parameters: dict[str, Any], rows: int) -> dict[str, Any]:
    """About STEPS steps in 10 to 300 epochs, by batches of 32 to 1,024 rows."""
    batch = int(parameters.setdefault("batch_size", min(1_024, max(32, rows // 200))))
    parameters["batch_size"] = min(batch, rows)
    parameters.setdefault("epochs", min(300, max(10, round(STEPS * batch / rows))))
    return parameters


def _start(data: Data, parameters: dict[str, Any], seed: int) -> tuple[SklearnEstimator, Any]:
    kind = MLPClassifier if data.class_count else MLPRegressor
    model = kind(
        hidden_layer_sizes=tuple(parameters["hidden_layer_sizes"]),
        activation=parameters["activation"],
        solver=parameters["solver"],
        learning_rate_init=parameters["learning_rate"],
        alpha=parameters["alpha"],
        batch_size=parameters["batch_size"],
        momentum=parameters["momentum"],
        # One generator for all epochs: with a number each would shuffle alike.
        random_state=np.random.RandomState(seed),
    )
    if data.class_count:
        return SklearnEstimator(model, data.class_count), data.y_train
    mean, scale = float(data.y_train.mean()), float(data.y_train.std()) or 1.0
    return SklearnEstimator(model, 0, mean=mean, scale=scale), (data.y_train - mean) / scale


def _weights(model: Any) -> tuple[list[Any], list[Any]] | None:
    if not hasattr(model, "coefs_"):
        return None
    return [layer.copy() for layer in model.coefs_], [layer.copy() for layer in model.intercepts_]


def _strip(model: Any, seed: int) -> None:
    """Leaves what predicting needs."""
    model.random_state = seed
    for name in ("_optimizer", "_random_state"):
        if hasattr(model, name):
            delattr(model, name)
