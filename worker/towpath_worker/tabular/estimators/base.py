"""What every estimator is given and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Matrix = np.ndarray[Any, np.dtype[Any]]

SAMPLE_ROWS = 2_000
Measure = Callable[[], Mapping[str, float]]
#: Called after each step with steps done, steps in all, and how to get the current metrics; raises when cancelled.
Report = Callable[[int, int, Measure], None]


@dataclass(frozen=True)
class Data:
    """Encoded rows. Targets are positions of classes, or numbers."""

    x_train: Matrix
    y_train: Matrix
    x_test: Matrix
    y_test: Matrix
    #: 0 for regression.
    class_count: int
    #: For each matrix column whether it holds codes without order.
    categorical: list[bool]

    @property
    def metric(self) -> str:
        """The name of what `loss` computes."""
        return "logloss" if self.class_count else "rmse"

    def sample(self, rows: int = SAMPLE_ROWS) -> tuple[Matrix, Matrix]:
        """At most so many test rows, spread evenly."""
        step = max(1, len(self.y_test) // rows)
        return self.x_test[::step][:rows], self.y_test[::step][:rows]


@dataclass(frozen=True)
class Settings:
    """How to train."""

    parameters: Mapping[str, Any]
    seed: int
    threads: int
    #: 0: never.
    early_stopping_rounds: int
    report: Report


class Estimator(Protocol):
    """Something trained."""

    def predict(self, matrix: Matrix) -> Matrix:
        """Probabilities, float64 (rows, classes); for regression numbers, float64 (rows,)."""
        ...

    def weights(self) -> Matrix | None:
        """What each matrix column adds, 0 or more; None where the estimator cannot say."""
        ...

    def coefficients(self) -> Matrix | None:
        """(outputs, columns) of a linear model; None for others."""
        ...

    def dump(self) -> tuple[bytes, dict[str, Any]]:
        """Its file, and what else `load` needs, as JSON."""
        ...


@dataclass(frozen=True)
class Fitted:
    """A trained estimator, the parameters that it was trained with, and what to tell."""

    estimator: Estimator
    parameters: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def loss(target: Matrix, predicted: Matrix) -> float:
    """Log loss of probabilities, or root mean squared error of numbers."""
    if predicted.ndim == 1:
        return float(np.sqrt(np.mean((target - predicted) ** 2)))
    chosen = predicted[np.arange(len(target)), target]
    return float(-np.mean(np.log(np.clip(chosen, 1e-15, 1.0))))
