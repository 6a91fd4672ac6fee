"""scikit-learn estimators on encoded columns, stored with skops: only types that are named here are ever loaded."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
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

_SKLEARN = """
    _loss._loss.CyHalfBinomialLoss _loss._loss.CyHalfMultinomialLoss _loss._loss.CyHalfSquaredError
    _loss.link.IdentityLink _loss.link.Interval _loss.link.LogitLink _loss.link.MultinomialLogit
    _loss.loss.HalfBinomialLoss _loss.loss.HalfMultinomialLoss _loss.loss.HalfSquaredError
    compose._column_transformer.ColumnTransformer
    ensemble._forest.RandomForestClassifier ensemble._forest.RandomForestRegressor
    ensemble._hist_gradient_boosting.binning._BinMapper
    ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier
    ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor
    ensemble._hist_gradient_boosting.predictor.TreePredictor
    linear_model._base.LinearRegression linear_model._coordinate_descent.ElasticNet
    linear_model._logistic.LogisticRegression linear_model._ridge.Ridge
    neural_network._multilayer_perceptron.MLPClassifier neural_network._multilayer_perceptron.MLPRegressor
    preprocessing._encoders.OrdinalEncoder preprocessing._function_transformer.FunctionTransformer
    preprocessing._label.LabelBinarizer preprocessing._label.LabelEncoder
    tree._classes.DecisionTreeClassifier tree._classes.DecisionTreeRegressor tree._tree.Tree
    utils.validation.check_array
"""
#: All that our own estimators consist of. skops trusts far more.
ALLOWED = frozenset(
    {
        *(f"sklearn.{name}" for name in _SKLEARN.split()),
        *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "slice", "str", "tuple")),
        *(f"numpy.{name}" for name in ("bool", "bool_", "dtype", "float32", "float64", "int32", "int64", "ndarray")),
        *("numpy.uint8", "numpy.uint32", "numpy.uint64", "numpy.random._generator.Generator", "functools.partial"),
    }
)
#: How skops builds them: none of these calls a method or an operator that a file names.
LOADERS = frozenset(
    f"{name}Node"
    for name in (
        *("Dict", "List", "Tuple", "Slice", "Json", "Type", "DType", "NdArray", "Object"),
        *("Tree", "Loss", "Partial", "Function", "RandomGenerator", "Cached"),
    )
)
_SCHEMA = "schema.json"
_MAX_SCHEMA_BYTES = 256 << 20


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
    foreign = sorted(set(_foreign(content)))
    if foreign:
        shown = ", ".join(foreign[:10])
        raise InvalidInput(f"the model's file holds types that are never loaded ({shown}): train it again")
    model = skops.io.loads(content, trusted=list(TRUSTED))
    if "n_jobs" in model.get_params(deep=False) and hasattr(model, "estimators_"):
        model.set_params(n_jobs=threads)
    return SklearnEstimator(
        model,
        int(stored["class_count"]),
        double=bool(stored["double"]),
        mean=float(stored["mean"]),
        scale=float(stored["scale"]),
    )


def _foreign(content: bytes) -> Iterator[str]:
    """The types and loaders in a file that are not allowed; before skops reads any of it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if archive.getinfo(_SCHEMA).file_size > _MAX_SCHEMA_BYTES:
            yield "a schema that is too large"
            return
        waiting = [json.loads(archive.read(_SCHEMA))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()
            if "__loader__" in node:
                name = f"{node.get('__module__')}.{node.get('__class__')}"
                if name not in ALLOWED:
                    yield name
                if node["__loader__"] not in LOADERS:
                    yield str(node["__loader__"])
