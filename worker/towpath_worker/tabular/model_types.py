"""The model types, and the other names under which people ask for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from towpath_worker.tabular.checks import one_of

Task = Literal["classification", "regression"]

MODEL_TYPES = ("xgboost", "random_forest", "gradient_boosting", "logistic_regression", "linear", "neural_network")
DEFAULT = "xgboost"
#: What a model type can do, where it cannot do both.
ONLY: dict[str, Task] = {"logistic_regression": "classification", "linear": "regression"}


@dataclass(frozen=True)
class Choice:
    """A model type as it will be trained."""

    model_type: str
    #: The task that the name asked for, if it did.
    task: Task | None = None
    #: Two classes and no more.
    binary: bool = False
    #: Hyperparameters that the name stands for.
    preset: dict[str, Any] = field(default_factory=dict)
    #: Hyperparameters of the library that the name comes from, without meaning here.
    without_meaning: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


_SAME = {
    "xgboost": ("xgb", "xgbclassifier", "xgbregressor", "xgboost_classifier", "xgboost_regressor", "gbtree"),
    "random_forest": ("rf", "forest", "randomforest", "random_forests"),
    "gradient_boosting": ("gbm", "gbdt", "gbt", "gb", "hist_gradient_boosting", "lightgbm", "lgbm", "catboost"),
    "logistic_regression": ("logistic", "logit", "logisticregression", "logreg"),
    "linear": ("linear_regression", "linearregression", "ols", "linear_model"),
    "neural_network": ("nn", "mlp", "neural_net", "dnn", "keras", "tensorflow", "multilayer_perceptron", "perceptron"),
}
_PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "ridge": ("linear", {"alpha": 1.0}),
    "lasso": ("linear", {"alpha": 1.0, "l1_ratio": 1.0}),
    "elastic_net": ("linear", {"alpha": 1.0, "l1_ratio": 0.5}),
    "elasticnet": ("linear", {"alpha": 1.0, "l1_ratio": 0.5}),
}
_TASKS: tuple[tuple[str, Task, bool], ...] = (
    ("_binary_classification", "classification", True),
    ("_multiclass_classification", "classification", False),
    ("_multi_class_classification", "classification", False),
    ("_classification", "classification", False),
    ("_classifier", "classification", False),
    ("_regression", "regression", False),
    ("_regressor", "regression", False),
)
_KERAS = frozenset(
    {
        "optimizer",
        "loss",
        "metrics",
        "kernel_initializer",
        "bias_initializer",
        "dropout",
        "validation_split",
        "callbacks",
    }
)
_NAMES = {name: model_type for model_type, names in _SAME.items() for name in (model_type, *names)}


def choose(asked: str) -> tuple[Choice, list[str]]:
    """The model type behind a name, and what is wrong with the name. An unknown name stands for the default."""
    name = asked.strip().lower().replace("-", "_").replace(" ", "_")
    if not name:
        return Choice(DEFAULT), []
    if name in MODEL_TYPES:
        return Choice(name, ONLY.get(name)), []
    found = _without_library(name)
    if found is None:
        return Choice(DEFAULT), [f"there is no model type {asked!r}; {one_of(asked, MODEL_TYPES)}"]
    return _with_note(asked, found), []


def _without_library(name: str) -> Choice | None:
    """`keras_regression`, `sklearn_random_forest`, `xgboost_binary_classification`, `ridge`..."""
    keras = frozenset(_KERAS if name.startswith(("keras", "tensorflow", "tf_")) else ())
    for library in ("sklearn_", "scikit_learn_", "tf_"):
        name = name.removeprefix(library)
    if name in _PRESETS:
        model_type, preset = _PRESETS[name]
        return Choice(model_type, ONLY.get(model_type), preset=preset)
    if name in _NAMES:
        task = "classification" if "classifier" in name else "regression" if "regressor" in name else None
        return Choice(_NAMES[name], task or ONLY.get(_NAMES[name]), without_meaning=keras)  # type: ignore[arg-type]
    for ending, of_task, binary in _TASKS:
        model_type = _NAMES.get(name.removesuffix(ending), "")
        if name.endswith(ending) and model_type and ONLY.get(model_type, of_task) == of_task:
            return Choice(model_type, of_task, binary, without_meaning=keras)
    return None


def _with_note(asked: str, choice: Choice) -> Choice:
    with_preset = (
        f" with {', '.join(f'{key}={value:g}' for key, value in choice.preset.items())}" if choice.preset else ""
    )
    library = {
        "neural_network": " (scikit-learn's multilayer perceptron)",
        "gradient_boosting": " (scikit-learn's histogram gradient boosting)",
    }.get(choice.model_type, "")
    note = f"model_type {asked!r} was trained as {choice.model_type!r}{library}{with_preset}"
    return Choice(choice.model_type, choice.task, choice.binary, choice.preset, choice.without_meaning, (note,))
