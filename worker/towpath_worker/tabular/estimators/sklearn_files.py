"""scikit-learn estimators on encoded columns, stored with skops: only types that are named here are ever loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import skops.io

from towpath_worker.errors import InvalidInput
from towpath_worker.tabular.estimators.base import Matrix

FILE = "model.skops"
#: Beyond what skops itself trusts: the compiled trees, and how gradient boosting checks its categories.
TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "functools.partial",
    "sklearn.utils.validation.check_array",
)


class SklearnEstimator:
    """An estimator that was trained on positions of classes, or on numbers moved by `mean` and `scale`."""

    def __init__(
        self, model: Any, class_count: int, *, double: bool = False, mean: float = 0, scale: float = 1
    ) -> None:
        self.model, self.class_count, self.double, self.mean, self.scale = model, class_count, double, mean, scale

    def predict(self, matrix: Matrix) -> Matrix:
        """Probabilities, float64 (rows, classes); for regression numbers, float64 (rows,)."""
        if self.class_count:
            return np.asarray(self.model.predict_proba(matrix), dtype="float64")
        return np.asarray(self.model.predict(matrix), dtype="float64") * self.scale + self.mean

    def weights(self) -> Matrix | None:
        """The impurity that each column's splits took away; None for estimators that are no forest."""
        weights = getattr(self.model, "feature_importances_", None)
        return None if weights is None else np.asarray(weights, dtype="float64")

    def coefficients(self) -> Matrix | None:
        """(outputs, columns) of a linear model; None for others."""
        coefficients = getattr(self.model, "coef_", None)
        return None if coefficients is None else np.atleast_2d(np.asarray(coefficients, dtype="float64"))

    def dump(self) -> tuple[bytes, dict[str, Any]]:
        """The skops file, and what belongs to it."""
        content = skops.io.dumps(self.model, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        stored = {"class_count": self.class_count, "double": self.double, "mean": self.mean, "scale": self.scale}
        return content, stored


def load(content: bytes, stored: Mapping[str, Any], threads: int) -> SklearnEstimator:
    """The estimator of a `dump`. Raises InvalidInput for a file with any other type in it."""
    untrusted = skops.io.get_untrusted_types(data=content)
    foreign = sorted(set(untrusted) - set(TRUSTED))
    if foreign:
        raise InvalidInput(f"the model's file holds types that are never loaded ({', '.join(foreign)}): train it again")
    model = skops.io.loads(content, trusted=untrusted)
    if "n_jobs" in model.get_params(deep=False) and hasattr(model, "estimators_"):
        model.set_params(n_jobs=threads)
    return SklearnEstimator(
        model,
        int(stored["class_count"]),
        double=bool(stored["double"]),
        mean=float(stored["mean"]),
        scale=float(stored["scale"]),
    )
