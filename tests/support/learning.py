"""Real tables to learn from, with text, gaps and dates, and short ways to train and predict on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets

from support.handling import TOKEN, Words, make_context
from towpath.v1 import job_pb2, model_pb2, table_pb2
from towpath_worker import staging, tables
from towpath_worker.handlers.predict import predict
from towpath_worker.handlers.train import train
from towpath_worker.paths import Folders

#: Model type and hyperparameters that train in moments.
QUICK: dict[str, dict[str, Any]] = {
    "xgboost": {"n_estimators": 30},
    "random_forest": {"n_estimators": 20},
    "gradient_boosting": {"max_iter": 30},
    "logistic_regression": {},
    "neural_network": {"epochs": 120, "hidden_layer_sizes": [16]},
    "linear": {},
}


def mixed(name: str, target: str, seed: int = 0) -> pd.DataFrame:
    """A bundled table with a text, a truth and a date column made from its first features, and gaps in all of them."""
    bundle = getattr(datasets, f"load_{name}")(as_frame=True)
    frame: pd.DataFrame = bundle.data.iloc[:, :6].copy()
    first, second = frame.iloc[:, 0], frame.iloc[:, 1]
    frame["size"] = pd.cut(first, 3, labels=["small", "medium", "large"]).astype(str)
    frame["high"] = second > second.median()
    frame["day"] = (pd.Timestamp("2013-01-01") + pd.to_timedelta(second.rank().astype(int), unit="D")).dt.strftime(
        "%Y-%m-%d"
    )
    random = np.random.default_rng(seed)
    for column in frame.columns[4:]:
        frame[column] = frame[column].astype(object).where(random.random(len(frame)) > 0.1, None).infer_objects()
    frame[target] = bundle.target
    return frame


def save(folders: Folders, frame: pd.DataFrame, name: str = "table.csv") -> table_pb2.DataRef:
    """The table as a file that jobs may read."""
    frame.to_csv(folders.data[0] / name, index=False)
    return table_pb2.DataRef(path=name)


def inline(frame: pd.DataFrame, *, arrow: bool = True) -> table_pb2.DataRef:
    """The table inside a message."""
    return table_pb2.DataRef(table=tables.to_inline(frame, arrow=arrow))


def run_train(
    folders: Folders, data: table_pb2.DataRef | pd.DataFrame, target: str, words: Words | None = None, **fields: Any
) -> job_pb2.TrainResult:
    """Trains by the handler and publishes the model, as the worker does when the scheduler has accepted the result.

    `hyperparameters` is a dict, QUICK's if not given; `user`... are the context's.
    """
    context = {name: fields.pop(name) for name in ("user", "job_id", "threads", "stop") if name in fields}
    parameters = fields.pop("hyperparameters", QUICK.get(fields.get("model_type", "xgboost"), {}))
    spec = job_pb2.TrainSpec(
        data=data if isinstance(data, table_pb2.DataRef) else inline(data), target_column=target, **fields
    )
    spec.hyperparameters.update(parameters)
    ctx = make_context(folders, words, **context)
    result = train(ctx, spec)
    staging.publish(folders, (ctx.job_id, TOKEN))
    return result


def run_predict(
    folders: Folders, model: model_pb2.Model, data: table_pb2.DataRef | pd.DataFrame, **fields: Any
) -> job_pb2.PredictResult:
    """Predicts by the handler."""
    context = {name: fields.pop(name) for name in ("user", "job_id") if name in fields}
    ref = data if isinstance(data, table_pb2.DataRef) else inline(data)
    spec = job_pb2.PredictSpec(data=ref, **({"model_id": model.model_id} | fields))
    return predict(make_context(folders, **context), spec)
