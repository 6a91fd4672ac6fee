"""Training on real tables: every model type, what it tells, what it stores, how it is stopped."""

from __future__ import annotations

import datetime
import decimal
import json
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from support.handling import TENANT, USER, WORKER, Words, make_context, make_folders
from support.learning import QUICK, inline, mixed, run_predict, run_train, save
from towpath.v1 import job_pb2, model_pb2, table_pb2
from towpath_worker import models, staging
from towpath_worker.errors import Cancelled, InvalidInput
from towpath_worker.handler import ProgressUpdate
from towpath_worker.handlers.train import train
from towpath_worker.paths import Folders

CLASSIFIERS = [name for name in QUICK if name != "linear"]
REGRESSORS = [name for name in QUICK if name != "logistic_regression"]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return make_folders(tmp_path)


@pytest.mark.parametrize("model_type", CLASSIFIERS)
@pytest.mark.parametrize("table", ["breast_cancer", "wine"])
def test_classification(folders: Folders, model_type: str, table: str) -> None:
    frame = mixed(table, "kind")
    result = run_train(folders, save(folders, frame), "kind", model_type=model_type)
    assert set(result.metrics) == {"accuracy", "f1", "roc_auc", "log_loss"}
    assert result.metrics["accuracy"] > 0.85
    assert result.metrics["roc_auc"] > 0.9
    assert result.model.task_type == model_pb2.TASK_TYPE_CLASSIFICATION
    assert list(result.model.classes) == [str(label) for label in sorted(frame["kind"].unique())]
    check_result(result, frame, model_type)


@pytest.mark.parametrize("model_type", REGRESSORS)
def test_regression(folders: Folders, model_type: str) -> None:
    frame = mixed("diabetes", "progress")
    result = run_train(folders, save(folders, frame), "progress", model_type=model_type)
    assert set(result.metrics) == {"r2", "rmse", "mae"}
    assert result.metrics["r2"] > 0.15
    assert result.model.task_type == model_pb2.TASK_TYPE_REGRESSION
    assert list(result.model.classes) == []
    check_result(result, frame, model_type)


def check_result(result: job_pb2.TrainResult, frame: pd.DataFrame, model_type: str) -> None:
    features = set(frame.columns[:-1])
    assert result.train_row_count + result.test_row_count == result.row_count == len(frame)
    assert result.test_row_count == round(len(frame) * 0.2)
    assert (
        {each.feature for each in result.feature_importances}
        == {each.name for each in result.model.features}
        == features
    )
    shares = [each.importance for each in result.feature_importances]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert set(result.durations) == {"load", "prepare", "fit", "evaluate", "save"}
    assert {each.name: each.type for each in result.model.features}["day"] == "datetime"
    model = result.model
    assert (model.model_type, model.worker_id, model.tenant, model.user) == (model_type, WORKER, TENANT, USER)
    assert (model.version, model.job_id, model.metrics) == (1, "job_0000000000001", result.metrics)
    assert model.name == f"{frame.columns[-1]}_{model_type}"
    assert set(QUICK[model_type]) <= set(model.hyperparameters)


@pytest.mark.parametrize("model_type", QUICK)
def test_progress_tells_phases_steps_metrics_and_time_left(folders: Folders, model_type: str) -> None:
    words = Words()
    run_train(
        folders,
        mixed("diabetes", "y"),
        "y" if model_type != "logistic_regression" else "high",
        words,
        model_type=model_type,
    )
    phases = [update.phase for update in words.updates]
    assert list(dict.fromkeys(phases)) == ["load", "prepare", "fit", "evaluate", "save"]
    percents = [update.percent for update in words.updates if update.percent is not None]
    assert percents == sorted(percents)
    last_step = next(update for update in reversed(words.updates) if update.phase == "fit")
    assert last_step.percent == 90
    metric = "logloss" if model_type == "logistic_regression" else "rmse"
    assert last_step.metrics[metric] > 0
    assert " of " in last_step.message


def test_the_same_seed_gives_the_same_model(folders: Folders) -> None:
    frame = mixed("wine", "kind")
    for model_type in CLASSIFIERS:

        def metrics(seed: int, model_type: str = model_type) -> dict[str, float]:
            result = run_train(folders, frame, "kind", model_type=model_type, random_seed=seed)
            return dict(result.metrics)

        assert metrics(7) == metrics(7), model_type
        assert metrics(7) != metrics(8), model_type


@pytest.mark.parametrize("model_type", ["xgboost", "random_forest", "neural_network"])
def test_cancelling_stops_the_fit_and_leaves_no_model(folders: Folders, model_type: str) -> None:
    stop = threading.Event()

    def cancel_in_the_fit(update: ProgressUpdate) -> None:
        if update.phase == "fit" and update.metrics:
            stop.set()

    words = Words(cancel_in_the_fit)
    steps = {"xgboost": "n_estimators", "random_forest": "n_estimators", "neural_network": "epochs"}[model_type]
    with pytest.raises(Cancelled):
        run_train(
            folders,
            mixed("wine", "kind"),
            "kind",
            words,
            model_type=model_type,
            hyperparameters={steps: 100_000},
            stop=stop,
        )
    assert words.updates[-1].phase == "fit"
    assert models.scan(folders) == []


def test_early_stopping(folders: Folders) -> None:
    frame = mixed("diabetes", "y")
    for model_type, steps in (
        ("xgboost", "n_estimators"),
        ("gradient_boosting", "max_iter"),
        ("neural_network", "epochs"),
    ):
        result = run_train(
            folders, frame, "y", model_type=model_type, early_stopping_rounds=5, hyperparameters={steps: 2_000}
        )
        assert any(note.startswith("stopped early") for note in result.notes), model_type
        assert any("a little too good" in note for note in result.notes)
        assert result.metrics["r2"] > 0.1
    for model_type in ("linear", "random_forest"):
        result = run_train(folders, frame, "y", model_type=model_type, early_stopping_rounds=5)
        assert any("early_stopping_rounds has no meaning" in note for note in result.notes)


@pytest.mark.parametrize(
    ("asked", "target", "trained", "parameters"),
    [
        ("keras_binary_classification", "high", "neural_network", {"epochs": 20, "verbose": 0, "optimizer": "adam"}),
        ("keras_multiclass_classification", "size", "neural_network", {"epochs": 20, "kernel_initializer": "normal"}),
        ("keras_regression", "y", "neural_network", {"epochs": 20}),
        ("keras", "y", "neural_network", {"epochs": 20}),
        ("MLP", "high", "neural_network", {"epochs": 20}),
        ("sklearn_random_forest", "y", "random_forest", {"n_estimators": 5}),
        ("lightgbm", "y", "gradient_boosting", {"n_estimators": 5, "num_leaves": 7}),
        ("xgboost-regression", "y", "xgboost", {"num_boost_round": 5, "eta": 0.3}),
        ("XGBClassifier", "size", "xgboost", {"n_estimators": 5}),
        ("ridge", "y", "linear", {"alpha": 0.1}),
        ("lasso", "y", "linear", {}),
        ("linear", "size", "logistic_regression", {"C": 0.5}),
    ],
)
def test_other_names_are_mapped_and_told(
    folders: Folders, asked: str, target: str, trained: str, parameters: dict[str, Any]
) -> None:
    result = run_train(folders, mixed("diabetes", "y"), target, model_type=asked, hyperparameters=parameters)
    assert result.model.model_type == trained
    assert any(trained in note and asked in note for note in result.notes)
    ignored = {"verbose", "optimizer", "kernel_initializer"} & set(parameters)
    assert all(any(name in note and "ignored" in note for note in result.notes) for name in ignored)


def test_the_task_is_found_by_the_target(folders: Folders) -> None:
    frame = mixed("diabetes", "y")
    frame["grade"] = (frame["y"] // 100).astype(int)
    for target, task in (
        ("y", model_pb2.TASK_TYPE_REGRESSION),
        ("size", model_pb2.TASK_TYPE_CLASSIFICATION),
        ("high", model_pb2.TASK_TYPE_CLASSIFICATION),
        ("grade", model_pb2.TASK_TYPE_CLASSIFICATION),
    ):
        result = run_train(folders, frame, target)
        assert result.model.task_type == task
        assert any("task_type was not given" in note for note in result.notes)
    asked = run_train(folders, frame, "grade", task_type=model_pb2.TASK_TYPE_REGRESSION)
    assert asked.model.task_type == model_pb2.TASK_TYPE_REGRESSION
    assert not any("task_type" in note for note in asked.notes)


def test_columns_without_use_and_rows_without_target_are_told(folders: Folders) -> None:
    frame = mixed("wine", "kind")
    frame["empty"] = None
    frame["same"] = "x"
    frame["ticket"] = [f"T{number}" for number in range(len(frame))]
    frame["kind"] = frame["kind"].astype(float).where(frame.index % 9 != 0)
    result = run_train(folders, save(folders, frame), "kind")
    assert result.row_count == len(frame)
    assert result.train_row_count + result.test_row_count == frame["kind"].notna().sum()
    assert list(result.model.classes) == ["0", "1", "2"]
    notes = "\n".join(result.notes)
    assert "20 rows without a target were left out" in notes
    assert "without values: 'empty'" in notes
    assert "one value only: 'same'" in notes
    assert "as many values as rows: 'ticket'" in notes
    assert not {"empty", "same", "ticket"} & {each.name for each in result.model.features}


def test_every_type_of_parquet_column(folders: Folders) -> None:
    numbers = range(60)
    frame = pd.DataFrame(
        {
            "date": [datetime.date(2013, 1, 1) + datetime.timedelta(days=n) for n in numbers],
            "moment": pd.date_range("2013-01-01", periods=60, freq="h", tz="Europe/Berlin"),
            "span": pd.to_timedelta(list(numbers), unit="s"),
            "price": [decimal.Decimal(n) / 8 for n in numbers],
            "category": pd.Categorical(["a", "b", "c"] * 20),
            "level": pd.Categorical([n % 4 for n in numbers]),
            "nullable": pd.array([None, *numbers[1:]], dtype="Int64"),
            "truth": pd.array([None, True, False] * 20, dtype="boolean"),
            "list": [[n] for n in numbers],
            "bytes": [b"x%d" % n for n in numbers],
            "y": [n // 30 for n in numbers],
        }
    )
    frame.to_parquet(folders.data[0] / "t.parquet")
    data = table_pb2.DataRef(path="t.parquet")
    for model_type in ("xgboost", "logistic_regression"):
        result = run_train(folders, data, "y", model_type=model_type)
        assert {each.name: each.type for each in result.model.features} == {
            "date": "datetime",
            "moment": "datetime",
            "span": "double",
            "price": "double",
            "category": "string",
            "level": "long",
            "nullable": "long",
            "truth": "boolean",
        }
        assert any("lists, objects or bytes: 'list', 'bytes'" in note for note in result.notes)
        assert run_predict(folders, result.model, data).row_count == 60


def test_every_class_is_trained_on_and_the_split_keeps_proportions(folders: Folders) -> None:
    frame = pd.DataFrame({"x": np.arange(103.0), "y": ["a"] * 80 + ["b"] * 20 + ["c"] * 2 + ["d"]})
    result = run_train(folders, frame, "y", test_size=0.25)
    assert (result.train_row_count, result.test_row_count) == (77, 26)
    assert list(result.model.classes) == ["a", "b", "c", "d"]
    assert "roc_auc" not in result.metrics


def test_wide_and_odd_values_train(folders: Folders) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"far": random.normal(size=400) * 1e300, "city": [f"c{n % 300}" for n in range(400)]})
    frame["gap"] = np.where(random.random(400) < 0.5, np.inf, 1.0)
    frame["[odd] <name>, with ünïcode"] = random.integers(0, 5, 400)
    frame["y"] = frame["[odd] <name>, with ünïcode"] * 2.0 + random.normal(size=400)
    for model_type in REGRESSORS:
        result = run_train(folders, frame.drop(columns="gap"), "y", model_type=model_type)
        assert result.feature_importances[0].feature.startswith("[odd]"), model_type
        assert result.metrics["r2"] > 0.5, model_type


def test_what_is_stored_is_readable_and_holds_no_pickle(folders: Folders) -> None:
    for model_type in QUICK:
        run_train(
            folders,
            mixed("diabetes", "y"),
            "y" if model_type != "logistic_regression" else "high",
            model_type=model_type,
        )
    stored = [path for path in folders.models.rglob("*") if path.is_file()]
    assert {path.name for path in stored} == {"MLmodel", "encoder.json", "model.skops", "model.ubj", "towpath.json"}
    for path in stored:
        content = path.read_bytes()
        parts = [content]
        if path.suffix == ".skops":
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                parts = [archive.read(name) for name in names]
            assert all(name.endswith((".json", ".npy")) for name in names), names
        # A pickle of protocol 2 or later begins with 0x80 and ends with a dot; object arrays in .npy are pickles.
        assert not any(part[:1] == b"\x80" or b"'descr': '|O'" in part[:200] for part in parts), path
    worker = Path(models.__file__).parent
    sources = "\n".join(path.read_text() for path in worker.rglob("*.py"))
    assert "import pickle" not in sources
    assert "joblib" not in sources


def test_the_manifest_and_mlmodel_describe_the_model(folders: Folders) -> None:
    result = run_train(folders, mixed("wine", "kind"), "kind", model_name="wines")
    home = folders.models / TENANT / USER / "wines" / "1"
    manifest = json.loads((home / "towpath.json").read_text())
    assert manifest["model_id"] == result.model.model_id
    assert manifest["metrics"] == dict(result.metrics)
    assert manifest["training_metrics"]["accuracy"] >= result.metrics["accuracy"]
    assert manifest["feature_importances"].keys() == {each.name for each in result.model.features}
    lines = dict(line.strip().split(": ", 1) for line in (home / "MLmodel").read_text().splitlines() if ": " in line)
    assert lines["loader_module"] == '"towpath_worker.pyfunc"'
    inputs = json.loads(json.loads(lines["inputs"]))
    assert {column["name"]: column["type"] for column in inputs} == {
        each.name: each.type for each in result.model.features
    }
    assert json.loads(json.loads(lines["outputs"])) == [{"type": "long", "name": "prediction", "required": True}]


def test_a_second_training_is_the_next_version(folders: Folders) -> None:
    frame = mixed("wine", "kind")
    made = [run_train(folders, frame, "kind", job_id=f"job_{number}").model for number in (1, 2)]
    assert [model.version for model in made] == [1, 2]


def test_a_model_stays_unseen_until_its_result_is_accepted(folders: Folders) -> None:
    ctx = make_context(folders)
    spec = job_pb2.TrainSpec(data=inline(mixed("wine", "kind")), target_column="kind")
    result = train(ctx, spec)
    assert models.scan(folders) == []
    with pytest.raises(InvalidInput, match="no model"):
        models.load(folders, result.model.model_id, TENANT, USER)
    staging.publish(folders, (ctx.job_id, ctx.lease_token))
    assert models.scan(folders) == [result.model]
