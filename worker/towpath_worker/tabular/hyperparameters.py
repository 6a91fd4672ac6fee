"""The hyperparameters of each model type: names, kinds, bounds, defaults. What is not in these tables is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from towpath_worker.tabular.checks import one_of
from towpath_worker.tabular.model_types import Choice

INFINITY = float("inf")


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter: `kind` is int, float, bool, text, ints (a list of them, or one)."""

    kind: str
    default: Any = None
    low: float = -INFINITY
    high: float = INFINITY
    #: The words that it may be; beside numbers where the kind is one.
    words: tuple[str, ...] = ()
    #: Other names for it.
    also: tuple[str, ...] = ()


_SHARE = Parameter("float", low=1e-9, high=1)
_DEPTH = Parameter("int", low=1, high=1_000)
_BALANCED = Parameter("text", words=("balanced",))
_CLASS_OBJECTIVES = ("binary:logistic", "multi:softprob")
_NUMBER_OBJECTIVES = (
    "reg:squarederror",
    "reg:absoluteerror",
    "reg:pseudohubererror",
    "reg:squaredlogerror",
    "reg:gamma",
    "reg:tweedie",
    "count:poisson",
)
_BINARY_METRICS = ("logloss", "error", "auc", "aucpr")
_MANY_CLASS_METRICS = ("mlogloss", "merror")
_NUMBER_METRICS = ("rmse", "rmsle", "mae", "mape")
_CLASS_CRITERIA = ("gini", "entropy", "log_loss")
_NUMBER_CRITERIA = ("squared_error", "friedman_mse", "poisson")

XGBOOST = {
    "n_estimators": Parameter("int", 200, 1, 100_000, also=("num_boost_round", "num_rounds", "rounds")),
    "learning_rate": Parameter("float", 0.1, 1e-9, 10, also=("eta",)),
    "max_depth": Parameter("int", 6, 0, 64),
    "max_leaves": Parameter("int", low=0),
    "grow_policy": Parameter("text", words=("depthwise", "lossguide")),
    "min_child_weight": Parameter("float", low=0),
    "gamma": Parameter("float", low=0, also=("min_split_loss",)),
    "reg_alpha": Parameter("float", low=0, also=("alpha",)),
    "reg_lambda": Parameter("float", low=0, also=("lambda",)),
    "subsample": _SHARE,
    "colsample_bytree": _SHARE,
    "colsample_bylevel": _SHARE,
    "colsample_bynode": _SHARE,
    "max_delta_step": Parameter("float", low=0),
    "scale_pos_weight": Parameter("float", low=1e-9),
    "max_bin": Parameter("int", 256, 2, 65_536),
    "num_parallel_tree": Parameter("int", low=1, high=10_000),
    "max_cat_to_onehot": Parameter("int", low=1),
    "max_cat_threshold": Parameter("int", low=1),
    "tree_method": Parameter("text", "hist", words=("hist", "approx", "auto")),
    "objective": Parameter("text", words=(*_CLASS_OBJECTIVES, *_NUMBER_OBJECTIVES)),
    "eval_metric": Parameter("text", words=(*_BINARY_METRICS, *_MANY_CLASS_METRICS, *_NUMBER_METRICS)),
}
RANDOM_FOREST = {
    "n_estimators": Parameter("int", 100, 1, 100_000, also=("num_trees", "trees")),
    "max_depth": _DEPTH,
    "min_samples_split": Parameter("int", low=2),
    "min_samples_leaf": Parameter("int", low=1),
    "max_leaf_nodes": Parameter("int", low=2),
    "max_features": Parameter("float", low=1e-9, high=1, words=("sqrt", "log2")),
    "min_impurity_decrease": Parameter("float", low=0),
    "criterion": Parameter("text", words=(*_CLASS_CRITERIA, *_NUMBER_CRITERIA)),
    "bootstrap": Parameter("bool"),
    "max_samples": _SHARE,
    "class_weight": Parameter("text", words=("balanced", "balanced_subsample")),
}
GRADIENT_BOOSTING = {
    "max_iter": Parameter("int", 200, 1, 100_000, also=("n_estimators", "num_boost_round", "iterations")),
    "learning_rate": Parameter("float", 0.1, 1e-9, 10),
    "max_leaf_nodes": Parameter("int", 31, 2, also=("num_leaves",)),
    "max_depth": _DEPTH,
    "min_samples_leaf": Parameter("int", low=1, also=("min_child_samples", "min_data_in_leaf")),
    "l2_regularization": Parameter("float", low=0, also=("reg_lambda", "l2_leaf_reg")),
    "max_features": Parameter("float", low=1e-9, high=1, also=("colsample_bynode",)),
    "class_weight": _BALANCED,
}
LOGISTIC_REGRESSION = {
    "C": Parameter("float", 1.0, 1e-12),
    "max_iter": Parameter("int", 500, 1, 1_000_000),
    "tol": Parameter("float", 1e-4, 0),
    "fit_intercept": Parameter("bool", True),
    "class_weight": _BALANCED,
}
LINEAR = {
    "alpha": Parameter("float", 0.0, 0),
    "l1_ratio": Parameter("float", 0.0, 0, 1),
    "fit_intercept": Parameter("bool", True),
    "max_iter": Parameter("int", 2_000, 1, 1_000_000),
    "tol": Parameter("float", 1e-4, 0),
}
NEURAL_NETWORK = {
    "hidden_layer_sizes": Parameter("ints", [64, 32], 1, 10_000, also=("hidden_layers", "layers", "hidden_units")),
    "activation": Parameter("text", "relu", words=("relu", "tanh", "logistic", "identity")),
    "solver": Parameter("text", "adam", words=("adam", "sgd")),
    "learning_rate": Parameter("float", 0.001, 1e-9, 10, also=("learning_rate_init", "lr")),
    "epochs": Parameter("int", low=1, high=100_000, also=("max_iter", "n_epochs")),
    "batch_size": Parameter("int", low=1, high=1_000_000),
    "alpha": Parameter("float", 1e-4, 0, also=("weight_decay", "l2")),
    "momentum": Parameter("float", 0.9, 0, 1),
}
TABLES: Mapping[str, Mapping[str, Parameter]] = {
    "xgboost": XGBOOST,
    "random_forest": RANDOM_FOREST,
    "gradient_boosting": GRADIENT_BOOSTING,
    "logistic_regression": LOGISTIC_REGRESSION,
    "linear": LINEAR,
    "neural_network": NEURAL_NETWORK,
}
_ELSEWHERE = {
    "random_state": "random_seed",
    "seed": "random_seed",
    "early_stopping_rounds": "early_stopping_rounds",
    "test_size": "test_size",
}
_WITHOUT_MEANING = frozenset({"verbose", "verbosity", "n_jobs", "nthread", "n_threads", "enable_categorical", "device"})


@dataclass(frozen=True)
class Checked:
    """Hyperparameters that fit their model type, defaults filled in; what is wrong with the others; what to tell."""

    values: dict[str, Any]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check(choice: Choice, given: Mapping[str, Any]) -> Checked:
    """Checks hyperparameters by name, kind and bounds. A message has only floats: whole ones may stand for ints."""
    table = TABLES[choice.model_type]
    names = {other: name for name, parameter in table.items() for other in (name, *parameter.also)}
    values: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    problems, without_meaning = [], []
    for name, value in given.items():
        if name in names:
            if names[name] in values:
                problems.append(f"hyperparameters {spelt[names[name]]!r} and {name!r} are the same: give one")
            spelt[names[name]] = name
            values[names[name]], problem = _fit(name, value, table[names[name]])
            problems += problem
        elif name in _ELSEWHERE:
            problems.append(f"{name!r} is no hyperparameter: set {_ELSEWHERE[name]} of the training itself")
        elif name in _WITHOUT_MEANING or name in choice.without_meaning:
            without_meaning.append(name)
        else:
            problems.append(f"{choice.model_type} has no hyperparameter {name!r}; {one_of(name, table)}")
    defaults = {name: parameter.default for name, parameter in table.items() if parameter.default is not None}
    notes = (f"hyperparameters without meaning here, ignored: {', '.join(without_meaning)}",) if without_meaning else ()
    known = {name: value for name, value in values.items() if value is not None}
    return Checked({**defaults, **choice.preset, **known}, tuple(problems), notes)


def misfits(values: Mapping[str, Any], class_count: int) -> list[str]:
    """What is wrong with checked hyperparameters for this number of classes; 0 stands for regression."""
    allowed: dict[str, tuple[str, ...]] = {
        "objective": _CLASS_OBJECTIVES[class_count > 2 :][:1] if class_count else _NUMBER_OBJECTIVES,
        "eval_metric": (_BINARY_METRICS if class_count == 2 else _MANY_CLASS_METRICS)
        if class_count
        else _NUMBER_METRICS,
        "criterion": _CLASS_CRITERIA if class_count else _NUMBER_CRITERIA,
        "class_weight": ("balanced", "balanced_subsample") if class_count else (),
    }
    task = f"{class_count} classes" if class_count else "regression"
    problems = [
        f"hyperparameter {name!r} cannot be {values[name]!r} for {task}"
        + (f": one of {', '.join(map(repr, words))}" if words else ": leave it out")
        for name, words in allowed.items()
        if name in values and values[name] not in words
    ]
    if "scale_pos_weight" in values and class_count != 2:
        problems.append(f"hyperparameter 'scale_pos_weight' needs two classes, not {task}: leave it out")
    return problems


def _fit(name: str, value: Any, parameter: Parameter) -> tuple[Any, list[str]]:
    """The value as its kind has it; null stands for the default."""
    if value is None or (isinstance(value, str) and value in parameter.words):
        return value, []
    fitted = _of_kind(value, parameter.kind)
    each_number = fitted if isinstance(fitted, list) else [] if fitted is None else [fitted]
    if not each_number or not all(parameter.low <= number <= parameter.high for number in each_number):
        return None, [f"hyperparameter {name!r} must be {_wanted(parameter)}, not {value!r}"]
    return fitted, []


def _of_kind(value: Any, kind: str) -> Any:
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if kind == "ints":
        numbers = [_of_kind(each, "int") for each in (value if isinstance(value, list) else [value])]
        return numbers if numbers and None not in numbers else None
    if isinstance(value, bool) or not isinstance(value, int | float) or kind == "text":
        return None
    if kind == "float":
        return float(value)
    return int(value) if float(value).is_integer() else None


def _wanted(parameter: Parameter) -> str:
    kind = {"int": "a whole number", "float": "a number", "bool": "true or false", "ints": "a list of whole numbers"}
    low, high = parameter.low, parameter.high
    bounds = f" from {low:g} to {high:g}" if high < INFINITY else f" of at least {low:g}" if low > -INFINITY else ""
    words = ", ".join(map(repr, parameter.words))
    if parameter.kind == "text":
        return f"one of {words}" if len(parameter.words) > 1 else words
    return f"{kind[parameter.kind]}{bounds}" + (f", or one of {words}" if words else "")
