"""Predictions: the same as in memory, in the type of the labels, inline or as a file; and those that are refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, r2_score

from support.handling import TENANT, USER, WORKER, make_context, make_folders, publish
from support.learning import QUICK, inline, mixed, run_predict, run_train, save
from towpath.v1 import job_pb2, model_pb2, table_pb2
from towpath_worker import models, tables
from towpath_worker.errors import InvalidInput
from towpath_worker.handlers import predict as predicting
from towpath_worker.handlers.list_models import list_models
from towpath_worker.paths import Folders
from towpath_worker.tabular import estimators, predictor


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return make_folders(tmp_path)


def predicted(result: job_pb2.PredictResult) -> pd.DataFrame:
    return tables.from_inline(result.predictions)


@pytest.mark.parametrize("model_type", QUICK)
def test_a_stored_model_predicts_what_it_did_in_memory(
    folders: Folders, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, target = (mixed("diabetes", "y"), "y") if model_type == "linear" else (mixed("wine", "kind"), "kind")
    in_memory: list[Any] = []
    fit = estimators.fit

    def remember(*arguments: Any) -> Any:
        in_memory.append(fit(*arguments))
        return in_memory[-1]

    monkeypatch.setattr(estimators, "fit", remember)
    model = run_train(folders, frame, target, model_type=model_type).model
    rows = frame.drop(columns=target)
    result = run_predict(folders, model, rows, probabilities=True)
    stored = predictor.load(models.load(folders, model.model_id, TENANT, USER))
    expected = in_memory[0].estimator.predict(stored.matrix(rows))
    answer = predicted(result)
    if model_type == "linear":
        assert list(answer.columns) == ["prediction"]
        np.testing.assert_array_equal(answer["prediction"], expected)
        assert r2_score(frame[target], answer["prediction"]) > 0.3
    else:
        assert list(answer.columns) == ["prediction", *(f"probability_{name}" for name in model.classes)]
        np.testing.assert_array_equal(answer.iloc[:, 1:], expected)
        assert accuracy_score(frame[target], answer["prediction"]) > 0.9
    assert (result.model_id, result.model_name) == (model.model_id, f"{model.name}@1")
    assert result.row_count == len(frame)
    assert set(result.durations) == {"load", "predict", "write"}


def test_a_model_that_is_kept_from_the_job_before_is_never_taken_for_another(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = predictor.load

    def counted(stored: models.StoredModel, threads: int = 1) -> predictor.Predictor:
        loaded.append(stored.model.model_id)
        return load(stored, threads)

    monkeypatch.setattr(predictor, "load", counted)
    frame = mixed("diabetes", "y")
    first = run_train(folders, frame, "y", model_type="linear").model
    second = run_train(folders, frame.assign(y=-frame["y"]), "y", model_type="linear").model
    rows = frame.drop(columns="y")
    answers = [predicted(run_predict(folders, model, rows))["prediction"] for model in (first, first, second, first)]
    assert loaded == [first.model_id, second.model_id, first.model_id]
    for again in (1, 3):
        np.testing.assert_array_equal(answers[0], answers[again])
    np.testing.assert_allclose(answers[2], -answers[0])
    (file,) = (path for path in folders.models.rglob("model.*") if f"{first.version}" == path.parent.name)
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(InvalidInput, match="was changed after its training"):
        run_predict(folders, first, rows)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (["no", "yes"], "str"),
        ([3, 7], "int64"),
        ([False, True], "bool"),
        ([0.5, 1.5], "float64"),
        (["1", "2"], "str"),
    ],
)
@pytest.mark.parametrize("arrow", [True, False])
def test_labels_come_back_as_they_were(folders: Folders, labels: list[Any], dtype: str, arrow: bool) -> None:
    frame = pd.DataFrame({"x": np.arange(40.0), "y": pd.Series(labels).take([0, 1] * 20).to_numpy()})
    frame["x"] += 100 * (frame["y"] == labels[1])
    fields: dict[str, Any] = {"task_type": model_pb2.TASK_TYPE_CLASSIFICATION, "hyperparameters": {"n_estimators": 5}}
    model = run_train(folders, inline(frame, arrow=arrow), "y", **fields).model
    answer = predicted(run_predict(folders, model, inline(frame[["x"]], arrow=arrow), probabilities=True))
    assert str(answer["prediction"].dtype) == dtype
    assert answer["prediction"].tolist() == frame["y"].tolist()
    assert list(answer.columns[1:]) == [f"probability_{label}" for label in labels]


def test_new_and_missing_values_are_predicted(folders: Folders) -> None:
    frame = mixed("wine", "kind")
    for model_type in QUICK.keys() - {"linear"}:
        model = run_train(folders, frame, "kind", model_type=model_type).model
        rows = frame.drop(columns="kind").head(3).copy()
        rows["size"] = ["huge", None, "small"]
        rows.iloc[0, :6] = np.nan
        rows["day"] = ["2099-12-31", None, "2013-02-03 04:05"]
        answer = predicted(run_predict(folders, model, rows, probabilities=True))
        assert answer.notna().all().all(), model_type
        assert answer.iloc[:, 1:].sum(axis=1).tolist() == pytest.approx([1, 1, 1])


def test_by_name_version_and_id(folders: Folders) -> None:
    frame = mixed("wine", "kind")
    made = [
        run_train(
            folders, frame, "kind", job_id=f"job_{n}", model_name="wines", hyperparameters={"n_estimators": n}
        ).model
        for n in (1, 2)
    ]
    for reference, model in (("wines", made[1]), ("wines@1", made[0]), ("wines@2", made[1])):
        result = run_predict(folders, model, frame, model_id="", model_name=reference)
        assert (result.model_id, result.model_name) == (model.model_id, f"wines@{model.version}")
    assert any("does not read, ignored: 'kind'" in note for note in result.notes)


def test_text_that_looks_like_numbers_stays_text_in_csv(folders: Folders) -> None:
    frame = pd.DataFrame({"code": ["007", "x1"] * 20, "y": ["a", "b"] * 20})
    model = run_train(folders, save(folders, frame), "y").model
    answer = predicted(run_predict(folders, model, save(folders, frame[["code"]].head(1), "one.csv")))
    assert answer["prediction"].tolist() == ["a"]


def test_all_wrong_columns_are_told_at_once(folders: Folders) -> None:
    frame = mixed("wine", "kind")
    model = run_train(folders, frame, "kind").model
    rows = frame.rename(columns={"alcohol": "alcohl"}).drop(columns="ash")
    rows["malic_acid"], rows["size"], rows["high"], rows["day"] = "much", 3, 7, "tomorrow"
    with pytest.raises(InvalidInput) as told:
        run_predict(folders, model, rows)
    for part in (
        "lacks columns that the model reads: 'alcohol', 'ash' (did you mean 'alcohl' for 'alcohol'?)",
        "column 'malic_acid' must be numbers, but is not (e.g. 'much')",
        "column 'size' must be text, but is not (e.g. 3)",
        "column 'high' must be true or false, but is not (e.g. 7)",
        "column 'day' must be dates as",
    ):
        assert part in str(told.value)


@pytest.mark.parametrize("name", ["out.csv", "sub/out.parquet"])
def test_output_to_a_file(folders: Folders, name: str) -> None:
    frame = mixed("wine", "kind")
    (folders.data[0] / "sub").mkdir()
    model = run_train(folders, frame, "kind").model
    inside = predicted(run_predict(folders, model, frame, probabilities=True))
    for _ in range(2):  # a job that is run again finds its own file and is content
        result = run_predict(folders, model, frame, probabilities=True, output_path=name)
    path = folders.data[0] / name
    pd.testing.assert_frame_equal(pd.read_csv(path) if name.endswith(".csv") else pd.read_parquet(path), inside)
    assert not result.HasField("predictions")
    content = path.read_bytes()
    assert (result.output.path, result.output.worker_id) == (name, WORKER)
    assert (result.output.size_bytes, result.output.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    with pytest.raises(InvalidInput, match="never overwritten"):
        run_predict(folders, model, frame, output_path=name)
    assert path.read_bytes() == content
    assert not [each for each in path.parent.iterdir() if each.name.endswith(".partial")]


@pytest.mark.parametrize(
    ("path", "told"), [("../out.csv", r"'\.\.'"), ("out.txt", "must end in"), ("no/out.csv", "no folder")]
)
def test_wrong_output_paths(folders: Folders, path: str, told: str) -> None:
    frame = mixed("wine", "kind")
    model = run_train(folders, frame, "kind").model
    with pytest.raises(InvalidInput, match=told):
        run_predict(folders, model, frame, output_path=path)


@pytest.mark.parametrize("arrow", [True, False])
def test_what_is_too_large_for_a_message_goes_to_a_file(
    folders: Folders, arrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = mixed("wine", "kind")
    model = run_train(folders, frame, "kind").model
    small = predicted(run_predict(folders, model, frame, probabilities=True))
    monkeypatch.setattr(predicting, "MAX_INLINE_BYTES", 1_000)
    for _ in range(2):
        result = run_predict(folders, model, inline(frame, arrow=arrow), probabilities=True, job_id="job_x")
    assert not result.HasField("predictions")
    assert Path(result.output.path).parent == folders.results
    pd.testing.assert_frame_equal(pd.read_parquet(result.output.path), small)
    assert hashlib.sha256(Path(result.output.path).read_bytes()).hexdigest() == result.output.sha256
    assert any("too large for a message" in note for note in result.notes)


def test_another_users_model_is_not_there(folders: Folders) -> None:
    frame = mixed("wine", "kind")
    model = run_train(folders, frame, "kind").model
    for fields in ({"model_id": model.model_id}, {"model_id": "", "model_name": model.name}):
        with pytest.raises(InvalidInput, match="no model"):
            run_predict(folders, model, frame, user="bob", **fields)


def test_a_model_with_foreign_types_is_not_loaded(folders: Folders) -> None:
    import skops.io

    frame = mixed("wine", "kind")
    model = run_train(folders, frame, "kind", model_type="logistic_regression").model
    stored = models.load(folders, model.model_id, TENANT, USER)
    files = {**stored.files, "model.skops": skops.io.dumps(subprocess.Popen)}
    evil = publish(
        folders,
        model_pb2.Model(name="evil", tenant=TENANT, user=USER, model_type="random_forest"),
        files,
        {key: stored.manifest[key] for key in ("labels", "estimator")},
    )
    with pytest.raises(InvalidInput, match="never loaded"):
        run_predict(folders, evil, frame)


def test_models_are_read_back_by_another_process(folders: Folders) -> None:
    """The way in of MLflow, which gives a folder."""
    frame = mixed("wine", "kind")
    model = run_train(folders, frame, "kind").model
    expected = predicted(run_predict(folders, model, frame))["prediction"].tolist()
    frame.to_parquet(folders.data[0] / "rows.parquet")
    script = f"""
import pandas as pd, towpath_worker.pyfunc
model = towpath_worker.pyfunc._load_pyfunc({str(folders.models / TENANT / USER / model.name / "1")!r})
print(model.predict(pd.read_parquet({str(folders.data[0] / "rows.parquet")!r}))["prediction"].tolist())
"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(expected)


def test_list_models(folders: Folders) -> None:
    wine, diabetes = mixed("wine", "kind"), mixed("diabetes", "y")
    first = run_train(folders, wine, "kind", model_name="wines").model
    second = run_train(folders, diabetes, "y", model_name="sugar", model_type="linear").model
    run_train(folders, wine, "kind", user="bob")

    def listed(**filters: Any) -> tuple[list[str], int]:
        result = list_models(make_context(folders), job_pb2.ListModelsSpec(**filters))
        return [model.model_id for model in result.models], result.total_count

    assert listed() == ([second.model_id, first.model_id], 2)
    assert listed(limit=1) == ([second.model_id], 2)
    assert listed(name_prefix="wi") == ([first.model_id], 1)
    assert listed(model_type="linear") == ([second.model_id], 1)
    assert listed(task_type=model_pb2.TASK_TYPE_CLASSIFICATION) == ([first.model_id], 1)
    assert listed(name_prefix="x") == ([], 0)


def test_an_empty_reference_to_data_is_refused(folders: Folders) -> None:
    model = run_train(folders, mixed("wine", "kind"), "kind").model
    with pytest.raises(InvalidInput, match="data is missing"):
        run_predict(folders, model, table_pb2.DataRef())
