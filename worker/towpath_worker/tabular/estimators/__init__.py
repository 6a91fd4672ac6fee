"""The estimators behind the model types: train one, store it, load it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from towpath_worker.errors import InvalidInput
from towpath_worker.tabular.encoder import Style
from towpath_worker.tabular.estimators import linear, network, sklearn_files, trees, xgb
from towpath_worker.tabular.estimators.base import Data, Estimator, Fitted, Settings
from towpath_worker.tabular.hyperparameters import TABLES

#: Where in its source a library was when it complained.
_LOCATION = re.compile(r"^\[[\d:]+\] \S+?:\d+: ")
_FITS: dict[str, Callable[[Data, Settings], Fitted]] = {
    "xgboost": xgb.fit,
    "random_forest": trees.fit_random_forest,
    "gradient_boosting": trees.fit_gradient_boosting,
    "logistic_regression": linear.fit_logistic_regression,
    "linear": linear.fit_linear,
    "neural_network": network.fit,
}
STEPS = {
    "xgboost": "round",
    "random_forest": "tree",
    "gradient_boosting": "round",
    "logistic_regression": "iteration",
    "linear": "step",
    "neural_network": "epoch",
}


def style_of(model_type: str) -> Style:
    """How the model type wants its columns."""
    return "tree" if model_type in ("xgboost", "random_forest", "gradient_boosting") else "dense"


def fit(model_type: str, data: Data, settings: Settings) -> Fitted:
    """Trains. Raises InvalidInput where the library refuses hyperparameters, and whatever `settings.report` raises."""
    defaults = {name: parameter.default for name, parameter in TABLES[model_type].items()}
    try:
        with threadpool_limits(settings.threads):
            return _FITS[model_type](data, settings)
    except (ValueError, xgb.Error) as error:
        changed = sorted(name for name, value in settings.parameters.items() if value != defaults[name])
        if not changed:
            raise
        said = _LOCATION.sub("", str(error).partition("\nStack trace")[0].strip())
        raise InvalidInput(f"{model_type} cannot be trained with this {', '.join(changed)}: {said}") from error


def file_of(model_type: str) -> str:
    """The name of the estimator's file."""
    return xgb.FILE if model_type == "xgboost" else sklearn_files.FILE


def load(model_type: str, content: bytes, stored: Mapping[str, Any], threads: int) -> Estimator:
    """The estimator of a `dump`."""
    if model_type == "xgboost":
        return xgb.load(content, stored, threads)
    return sklearn_files.load(content, stored, threads)
