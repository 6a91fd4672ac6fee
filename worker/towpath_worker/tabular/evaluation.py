"""How good a model is, and what each column adds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn import metrics

from towpath_worker.tabular.estimators.base import SAMPLE_ROWS, Data, Estimator, Matrix, loss

TRAINING_ROWS = 10_000
_CELLS = 4_000_000
_BLOCK = 200_000


def predict(estimator: Estimator, matrix: Matrix, check: Callable[[], None] = lambda: None) -> Matrix:
    """Predictions block by block; `check` is called between them and may raise."""
    blocks = []
    for start in range(0, max(1, len(matrix)), _BLOCK):
        check()
        blocks.append(estimator.predict(matrix[start : start + _BLOCK]))
    return np.concatenate(blocks)


def measure(target: Matrix, predicted: Matrix) -> dict[str, float]:
    """accuracy, f1, log_loss and, where it is defined, roc_auc; or r2, rmse, mae.

    f1 and roc_auc: of the second class where there are two, else the mean over the classes (one against the rest).
    """
    if predicted.ndim == 1:
        figures = {"rmse": loss(target, predicted), "mae": float(np.mean(np.abs(target - predicted)))}
        if len(target) > 1 and target.min() < target.max():
            figures["r2"] = float(metrics.r2_score(target, predicted))
        return figures
    classes = np.arange(predicted.shape[1])
    chosen = predicted.argmax(axis=1)
    average = {"average": "binary"} if len(classes) == 2 else {"average": "macro", "labels": classes}
    figures = {
        "accuracy": float(np.mean(chosen == target)),
        "f1": float(metrics.f1_score(target, chosen, zero_division=0, **average)),
        "log_loss": loss(target, predicted),
    }
    if len(np.unique(target)) == len(classes):
        scores = predicted[:, 1] if len(classes) == 2 else predicted / predicted.sum(axis=1, keepdims=True)
        figures["roc_auc"] = float(metrics.roc_auc_score(target, scores, multi_class="ovr"))
    return figures


def importances(
    estimator: Estimator, data: Data, sources: Sequence[int], count: int, seed: int, check: Callable[[], None]
) -> list[float]:
    """The share of each of `count` table columns: they add up to 1, or are all 0. `sources`: see Encoder."""
    weights, coefficients = estimator.weights(), estimator.coefficients()
    shares = np.zeros(count)
    if weights is not None:
        np.add.at(shares, np.asarray(sources), np.nan_to_num(weights))
    elif coefficients is not None:
        shares = _contributed(coefficients, data, np.asarray(sources), count)
    else:
        shares = _permuted(estimator, data, np.asarray(sources), count, seed, check)
    total = float(shares.sum())
    return [float(share) / total for share in shares] if total > 0 else [0.0] * count


def _contributed(coefficients: Matrix, data: Data, sources: np.ndarray[Any, Any], count: int) -> Matrix:
    """How far a column's part of the linear score spreads: for a scaled number the size of its coefficient."""
    rows, _ = data.sample()
    shares = np.zeros(count)
    for index in range(count):
        columns = np.flatnonzero(sources == index)
        shares[index] = float((rows[:, columns].astype("float64") @ coefficients[:, columns].T).std(axis=0).mean())
    return shares


def _permuted(
    estimator: Estimator, data: Data, sources: np.ndarray[Any, Any], count: int, seed: int, check: Callable[[], None]
) -> Matrix:
    """How much worse the loss of some test rows gets when a column is shuffled; all its matrix columns at once."""
    random = np.random.default_rng(seed)
    rows, target = data.sample(int(min(SAMPLE_ROWS, max(100, _CELLS // max(1, count)))))
    base = loss(target, estimator.predict(rows))
    worse = np.zeros(count)
    for index in range(count):
        check()
        columns = np.flatnonzero(sources == index)
        shuffled = rows.copy()
        shuffled[:, columns] = rows[random.permutation(len(rows))][:, columns]
        worse[index] = max(0.0, loss(target, estimator.predict(shuffled)) - base)
    return worse
