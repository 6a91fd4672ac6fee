"""The `MLmodel` file beside each model, in MLflow's format: its flavors and its signature.

`mlflow.pyfunc.load_model(folder)` then takes tables as they were trained on, where towpath[worker] is installed.
Format: https://mlflow.org/docs/latest/ml/model/#storage-format
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from google.protobuf import timestamp_pb2

from towpath.v1 import model_pb2

MLFLOW_VERSION = "3.0.0"
_XGBOOST = ("xgboost-cpu", "xgboost")


def render(model: model_pb2.Model, file: str, label_type: str, trusted: Sequence[str] = ()) -> str:
    """The text of an `MLmodel` file. `label_type`: of the predictions, as a signature names it."""
    flavors: dict[str, Any] = {
        "python_function": {"loader_module": "towpath_worker.pyfunc", "python_version": platform.python_version()}
    }
    if file.endswith(".ubj"):
        flavors["xgboost"] = {
            "data": file,
            "model_class": "xgboost.core.Booster",
            "model_format": "ubj",
            "xgb_version": _version(*_XGBOOST),
        }
    else:
        flavors["sklearn"] = {
            "pickled_model": file,  # MLflow's name for it in every format
            "serialization_format": "skops",
            "skops_trusted_types": list(trusted),
            "sklearn_version": _version("scikit-learn"),
        }
    content = {
        "flavors": flavors,
        "metadata": {"towpath_model_id": model.model_id, "model_type": model.model_type, "job_id": model.job_id},
        "mlflow_version": MLFLOW_VERSION,
        "model_uuid": model.model_id,
        "signature": {
            "inputs": json.dumps([_column(feature.type, feature.name) for feature in model.features]),
            "outputs": json.dumps([_column(label_type, "prediction")]),
            "params": None,
        },
        "utc_time_created": _created(model.create_time),
    }
    return "".join(_yaml(content, ""))


def _column(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, "name": name, "required": True}


def _created(time: timestamp_pb2.Timestamp) -> str:
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S.%f}"


def _version(*packages: str) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""


def _yaml(value: dict[str, Any], indent: str) -> list[str]:
    """Maps as blocks, all else as JSON, which is YAML."""
    lines = []
    for name, item in sorted(value.items()):
        if isinstance(item, dict):
            lines += [f"{indent}{name}:\n", *_yaml(item, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {json.dumps(item)}\n")
    return lines
