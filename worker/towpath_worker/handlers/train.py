"""The job type `train`: a table in, a model in the worker's store out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from towpath.v1 import job_pb2, model_pb2
from towpath_worker import mlmodel, models, staging, tables
from towpath_worker.errors import InvalidInput
from towpath_worker.handlers.progress import Phases
from towpath_worker.tabular import encoder, estimators, evaluation, hyperparameters, model_types, problem
from towpath_worker.tabular.checks import refuse
from towpath_worker.tabular.columns import Kind, kind_of
from towpath_worker.tabular.estimators.base import Data, Fitted, Settings
from towpath_worker.tabular.estimators.sklearn_files import TRUSTED
from towpath_worker.tabular.predictor import Predictor
from towpath_worker.tabular.split import split

if TYPE_CHECKING:
    import pandas as pd

    from towpath_worker.handler import Context

TEST_SIZE = 0.2
SEED = 42
_ENDS = {"load": 10.0, "prepare": 20.0, "fit": 90.0, "evaluate": 96.0, "save": 100.0}
_TASKS: dict[int, model_types.Task] = {
    model_pb2.TASK_TYPE_CLASSIFICATION: "classification",
    model_pb2.TASK_TYPE_REGRESSION: "regression",
}


@dataclass(frozen=True)
class _Plan:
    """What is trained, once the table is known."""

    choice: model_types.Choice
    parameters: dict[str, Any]
    problem: problem.Problem
    notes: list[str]


def train(ctx: Context, spec: job_pb2.TrainSpec) -> job_pb2.TrainResult:
    """Trains a model and stages it. Raises InvalidInput that tells all that is wrong."""
    phases = Phases(ctx, _ENDS)
    choice, problems = model_types.choose(spec.model_type)
    with phases.run("load", "reading the table"):
        frame = _read(ctx, spec, choice, problems, phases)
    with phases.run("prepare", f"preparing {len(frame):,} rows"):
        plan = _plan(frame, spec, choice, problems)
        seed = spec.random_seed if spec.HasField("random_seed") else SEED
        test_size = spec.test_size if spec.HasField("test_size") else TEST_SIZE
        code, data = _encode(plan, test_size, seed)
    model_type = plan.choice.model_type
    with phases.run("fit", f"training {model_type}"):
        unit = estimators.STEPS[model_type]
        settings = Settings(
            plan.parameters,
            seed,
            max(1, ctx.threads),
            spec.early_stopping_rounds,
            lambda done, total, measure: phases.step(unit, done, total, measure),
        )
        fitted = estimators.fit(model_type, data, settings)
    with phases.run("evaluate", f"measuring on {len(data.y_test):,} test rows"):
        result = _evaluated(ctx, plan, code, data, fitted, seed)
    with phases.run("save", "saving the model"):
        _save(ctx, spec, plan, Predictor(code, fitted.estimator, plan.problem.labels), fitted, data, result)
    result.durations.update(phases.durations)
    result.row_count = len(frame)
    return result


def _read(
    ctx: Context, spec: job_pb2.TrainSpec, choice: model_types.Choice, problems: list[str], phases: Phases
) -> pd.DataFrame:
    try:
        return tables.read(ctx.folders, spec.data, progress=phases.share)
    except InvalidInput as error:
        checked = hyperparameters.check(choice, json_format.MessageToDict(spec.hyperparameters))
        refuse([*problems, *(() if problems else checked.problems), str(error)])
        raise


def _plan(frame: pd.DataFrame, spec: job_pb2.TrainSpec, choice: model_types.Choice, problems: list[str]) -> _Plan:
    target, features, notes = spec.target_column, list(spec.feature_columns), []
    asked = _TASKS.get(spec.task_type)
    known_type = not problems
    problems = [*problems, *problem.wrong_columns(list(frame.columns), target, features)]
    task = asked or choice.task
    if target in frame.columns and (task is None or (choice.model_type == "linear" and not asked)):
        task = problem.task_of(frame[target]) if choice.model_type != "linear" else _linear_task(frame[target])
        notes.append(f"task_type was not given: {task}, by the values of {target!r}")
    task = task or "classification"
    if choice.model_type == "linear" and task == "classification":
        choice = model_types.Choice("logistic_regression", notes=(*choice.notes, _LINEAR_NOTE))
    elif choice.task and task != choice.task:
        problems.append(
            f"model_type {spec.model_type!r} does {choice.task}, not {task}: change model_type or task_type"
        )
    checked = hyperparameters.check(choice, json_format.MessageToDict(spec.hyperparameters))
    problems += checked.problems if known_type else ()
    refuse(problems)
    defined = problem.define(frame, target, features, task)
    if choice.binary and defined.class_count > 2:
        problems.append(
            f"model_type {spec.model_type!r} needs two classes, but {target!r} has {defined.class_count}: "
            f"choose model_type {choice.model_type!r}"
        )
    refuse([*problems, *hyperparameters.misfits(checked.values, defined.class_count)])
    return _Plan(choice, checked.values, defined, [*choice.notes, *notes, *checked.notes, *defined.notes])


_LINEAR_NOTE = "the target holds classes, so 'linear' was trained as 'logistic_regression'"


def _linear_task(target: pd.Series) -> model_types.Task:
    """`linear` means regression, unless the target is no number."""
    return "regression" if kind_of(target) in (Kind.DOUBLE, Kind.LONG) else "classification"


def _encode(plan: _Plan, test_size: float, seed: int) -> tuple[encoder.Encoder, Data]:
    wanted = plan.problem
    train_rows, test_rows = split(wanted.target, wanted.class_count, test_size, seed)
    if len(test_rows) == 0 or len(train_rows) < 2:
        raise InvalidInput("there are too few rows of each class to keep some for the metrics: give more rows")
    train_frame = wanted.frame.iloc[train_rows]
    model_type = plan.choice.model_type
    code = encoder.learn(train_frame, wanted.kinds, estimators.style_of(model_type))
    double = model_type == "linear"
    data = Data(
        code.transform(train_frame, double=double),
        wanted.target[train_rows],
        code.transform(wanted.frame.iloc[test_rows], double=double),
        wanted.target[test_rows],
        wanted.class_count,
        code.categorical,
    )
    return code, data


def _evaluated(
    ctx: Context, plan: _Plan, code: encoder.Encoder, data: Data, fitted: Fitted, seed: int
) -> job_pb2.TrainResult:
    predicted = evaluation.predict(fitted.estimator, data.x_test, ctx.raise_if_cancelled)
    names = [column.name for column in code.columns]
    shares = evaluation.importances(fitted.estimator, data, code.sources, len(names), seed, ctx.raise_if_cancelled)
    ranked = sorted(zip(names, shares, strict=True), key=lambda pair: (-pair[1], pair[0]))
    result = job_pb2.TrainResult(
        metrics=evaluation.measure(data.y_test, predicted),
        feature_importances=[job_pb2.FeatureImportance(feature=name, importance=share) for name, share in ranked],
        train_row_count=len(data.y_train),
        test_row_count=len(data.y_test),
        feature_count=len(names),
        notes=[*plan.notes, *fitted.notes],
    )
    labels = plan.problem.labels
    if labels and len(labels.classes) == 2 and labels.kind is Kind.STRING:
        result.notes.append(f"f1 and roc_auc are those of the class {labels.names[1]!r}")
    if any("stopped early" in note for note in fitted.notes):
        result.notes.append("the test rows also decided when to stop: the metrics are a little too good")
    return result


def _save(
    ctx: Context,
    spec: job_pb2.TrainSpec,
    plan: _Plan,
    predictor: Predictor,
    fitted: Fitted,
    data: Data,
    result: job_pb2.TrainResult,
) -> None:
    model_type, file = plan.choice.model_type, estimators.file_of(plan.choice.model_type)
    model = model_pb2.Model(
        model_id=models.new_model_id(),
        name=spec.model_name or _name(spec.target_column, model_type),
        worker_id=ctx.worker_id,
        tenant=ctx.tenant,
        user=ctx.user,
        model_type=model_type,
        task_type=(model_pb2.TASK_TYPE_CLASSIFICATION if plan.problem.labels else model_pb2.TASK_TYPE_REGRESSION),
        target_column=spec.target_column,
        features=[model_pb2.ModelFeature(name=name, type=kind) for name, kind in plan.problem.kinds.items()],
        classes=plan.problem.labels.names if plan.problem.labels else [],
        metrics=result.metrics,
        job_id=ctx.job_id,
    )
    model.hyperparameters.update(fitted.parameters)
    model.create_time.GetCurrentTime()
    files, details = predictor.files(file)
    label_type = plan.problem.labels.kind if plan.problem.labels else Kind.DOUBLE
    files["MLmodel"] = mlmodel.render(model, file, label_type, TRUSTED).encode()
    trained = fitted.estimator.predict(data.x_train[: evaluation.TRAINING_ROWS])
    details |= {
        "training_metrics": evaluation.measure(data.y_train[: evaluation.TRAINING_ROWS], trained),
        "feature_importances": {each.feature: each.importance for each in result.feature_importances},
        "train_row_count": result.train_row_count,
        "test_row_count": result.test_row_count,
        "notes": list(result.notes),
    }
    # The worker gives it its name when the scheduler has accepted this result.
    result.model.CopyFrom(staging.stage(ctx.folders, model, files, details, (ctx.job_id, ctx.lease_token)))


def _name(target: str, model_type: str) -> str:
    """The name of a model that was given none: target and model type, in the characters that names have."""
    text = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{target}_{model_type}").strip("._-")[:100]
    return text or model_type
