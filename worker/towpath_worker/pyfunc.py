"""MLflow's way in: `mlflow.pyfunc.load_model(folder)` imports this module and calls `_load_pyfunc`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from towpath_worker.models import load_folder
from towpath_worker.tabular import predictor


class PyfuncModel:
    """A stored model as MLflow calls it."""

    def __init__(self, inner: predictor.Predictor) -> None:
        self._inner = inner

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Column `prediction`; with params {"probabilities": True} the probabilities too."""
        self._inner.check(frame)
        return self._inner.predict(frame, probabilities=bool((params or {}).get("probabilities")))


def _load_pyfunc(path: str) -> PyfuncModel:
    return PyfuncModel(predictor.load(load_folder(Path(path), path)))
