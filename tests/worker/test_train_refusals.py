"""Trainings that cannot be: each is refused with what to do about it, all that is wrong at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from support.handling import make_folders
from support.learning import mixed, run_train
from towpath.v1 import model_pb2, table_pb2
from towpath_worker import models
from towpath_worker.errors import InvalidInput
from towpath_worker.paths import Folders

CLASSIFICATION, REGRESSION = model_pb2.TASK_TYPE_CLASSIFICATION, model_pb2.TASK_TYPE_REGRESSION


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return make_folders(tmp_path)


def refusal(folders: Folders, data: Any, target: str, **fields: Any) -> str:
    with pytest.raises(InvalidInput) as told:
        run_train(folders, data, target, **fields)
    assert models.scan(folders) == []
    return str(told.value)


@pytest.mark.parametrize(
    ("target", "fields", "told"),
    [
        ("knd", {}, "no target column 'knd'; did you mean 'kind'"),
        ("kind", {"feature_columns": ["alcohl"]}, "no feature column 'alcohl'; did you mean 'alcohol'"),
        ("kind", {"feature_columns": ["alcohol", "kind"]}, "'kind' is also among the features"),
        ("kind", {"model_type": "xgbost"}, "no model type 'xgbost'; did you mean 'xgboost'"),
        ("kind", {"model_type": "quantum"}, "; there are: xgboost, random_forest"),
        ("size", {"task_type": REGRESSION}, "must be numbers for regression"),
        ("day", {"task_type": REGRESSION}, "must be numbers for regression"),
        ("alcohol", {"task_type": CLASSIFICATION}, "too many classes: set task_type to REGRESSION"),
        ("kind", {"model_type": "logistic_regression", "task_type": REGRESSION}, "does classification, not regression"),
        (
            "kind",
            {"model_type": "keras_regression", "task_type": CLASSIFICATION},
            "does regression, not classification",
        ),
        ("kind", {"model_type": "keras_binary_classification"}, "needs two classes, but 'kind' has 3"),
    ],
)
def test_wrong_wishes(folders: Folders, target: str, fields: dict[str, Any], told: str) -> None:
    assert told in refusal(folders, mixed("wine", "kind"), target, **fields)


@pytest.mark.parametrize(
    ("model_type", "parameters", "told"),
    [
        ("xgboost", {"max_dept": 3}, "xgboost has no hyperparameter 'max_dept'; did you mean 'max_depth'"),
        ("xgboost", {"zeal": 3}, "xgboost has no hyperparameter 'zeal'; there are: n_estimators"),
        ("xgboost", {"max_depth": 3.5}, "'max_depth' must be a whole number from 0 to 64, not 3.5"),
        ("xgboost", {"max_depth": "6"}, "'max_depth' must be a whole number"),
        ("xgboost", {"max_depth": True}, "'max_depth' must be a whole number"),
        ("xgboost", {"n_estimators": 0}, "from 1 to 100000, not 0"),
        ("xgboost", {"subsample": 1.5}, "'subsample' must be a number"),
        ("xgboost", {"tree_method": "magic"}, "one of 'hist', 'approx', 'auto'"),
        ("xgboost", {"eta": 0.1, "learning_rate": 0.1}, "are the same: give one"),
        ("xgboost", {"random_state": 3}, "set random_seed of the training itself"),
        ("xgboost", {"early_stopping_rounds": 3}, "set early_stopping_rounds of the training itself"),
        ("xgboost", {"objective": "reg:squarederror"}, "cannot be 'reg:squarederror' for 3 classes"),
        ("xgboost", {"scale_pos_weight": 2}, "needs two classes"),
        ("random_forest", {"criterion": "squared_error"}, "cannot be 'squared_error' for 3 classes"),
        ("random_forest", {"learning_rate": 0.1}, "random_forest has no hyperparameter 'learning_rate'"),
        ("random_forest", {"max_features": 2}, "or one of 'sqrt', 'log2'"),
        ("neural_network", {"hidden_layer_sizes": []}, "a list of whole numbers"),
        ("neural_network", {"hidden_layer_sizes": [8, "x"]}, "a list of whole numbers"),
        ("neural_network", {"kernel_initializer": "normal"}, "no hyperparameter 'kernel_initializer'"),
        ("logistic_regression", {"C": {"a": 1}}, "'C' must be a number"),
        ("gradient_boosting", {"class_weight": "heavy"}, "must be 'balanced'"),
    ],
)
def test_wrong_hyperparameters(folders: Folders, model_type: str, parameters: dict[str, Any], told: str) -> None:
    frame = mixed("wine", "kind")
    assert told in refusal(folders, frame, "kind", model_type=model_type, hyperparameters=parameters)


def test_whole_numbers_null_and_words_are_taken(folders: Folders) -> None:
    result = run_train(
        folders,
        mixed("wine", "kind"),
        "kind",
        model_type="random_forest",
        hyperparameters={"n_estimators": 6.0, "max_depth": None, "max_features": "sqrt", "bootstrap": False},
    )
    assert dict(result.model.hyperparameters)["n_estimators"] == 6
    assert "max_depth" not in result.model.hyperparameters


def test_all_that_is_wrong_is_told_at_once(folders: Folders) -> None:
    told = refusal(
        folders,
        mixed("wine", "kind"),
        "knd",
        feature_columns=["alcohl", "size"],
        hyperparameters={"depth": 1, "eta": -1},
    )
    assert all(part in told for part in ("'knd'", "'alcohl'", "'depth'", "'eta'"))
    told = refusal(folders, table_pb2.DataRef(path="missing.csv"), "y", hyperparameters={"depth": 1})
    assert "'depth'" in told
    assert "no file 'missing.csv'" in told


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"x": range(12), "y": ["a"] * 12}, "one class only ('a')"),
        ({"x": range(12), "y": [1.5] * 12}, "1.5 in every row"),
        ({"x": range(12), "y": [None] * 12}, "has no values"),
        ({"x": range(6), "y": list("ababab")}, "there are 6 rows with a target: at least 10"),
        ({"x": range(12), "y": ["a"] * 5 + [None] * 7}, "one class only"),
        ({"x": range(12), "y": ["a", "b"] * 2 + [None] * 8}, "there are 4 rows with a target"),
        ({"y": list("ab") * 6}, "only the target"),
        ({"x": [1] * 12, "y": list("ab") * 6}, "no feature is left"),
        ({"x": range(12), "y": list("abcdefghijkl")}, "too few rows of each class"),
    ],
)
def test_tables_that_teach_nothing(folders: Folders, columns: dict[str, Any], told: str) -> None:
    fields: dict[str, Any] = {"task_type": REGRESSION} if "every row" in told else {}
    assert told in refusal(folders, pd.DataFrame(columns), "y", **fields)


@pytest.mark.parametrize(
    ("model_type", "parameters", "told"),
    [
        (
            "xgboost",
            {"objective": "count:poisson"},
            "cannot be trained with this n_estimators, objective: label must be",
        ),
        ("random_forest", {"criterion": "poisson"}, "cannot be trained with this criterion: "),
    ],
)
def test_what_the_library_refuses_is_told(
    folders: Folders, model_type: str, parameters: dict[str, Any], told: str
) -> None:
    frame = mixed("diabetes", "y").assign(y=lambda frame: -frame["y"])
    parameters |= {"n_estimators": 5} if model_type == "xgboost" else {}
    said = refusal(folders, frame, "y", model_type=model_type, hyperparameters=parameters)
    assert told in said
    assert "Stack trace" not in said


def test_a_network_that_diverges_is_told(folders: Folders) -> None:
    parameters = {"solver": "sgd", "learning_rate": 10, "epochs": 50, "activation": "identity"}
    told = refusal(folders, mixed("diabetes", "y"), "y", model_type="neural_network", hyperparameters=parameters)
    assert "lower learning_rate" in told
