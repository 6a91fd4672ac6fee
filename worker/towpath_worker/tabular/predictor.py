"""A stored model that predicts: columns are checked and encoded as at training, labels come back as they were given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import pandas as pd

from towpath_worker.errors import InvalidInput
from towpath_worker.models import StoredModel
from towpath_worker.tabular import estimators
from towpath_worker.tabular.checks import listed, refuse
from towpath_worker.tabular.columns import IN_WORDS, Kind, WrongValues, moments, numbers, texts
from towpath_worker.tabular.encoder import Encoder
from towpath_worker.tabular.estimators.base import Estimator, Matrix
from towpath_worker.tabular.evaluation import predict
from towpath_worker.tabular.problem import Labels

ENCODER_FILE = "encoder.json"


@dataclass(frozen=True)
class Predictor:
    """What turns a table into predictions."""

    encoder: Encoder
    estimator: Estimator
    #: None for regression.
    labels: Labels | None

    @property
    def text_columns(self) -> frozenset[str]:
        """Features to be read as text, whatever they look like."""
        return frozenset(column.name for column in self.encoder.columns if column.kind is Kind.STRING)

    def check(self, frame: pd.DataFrame) -> list[str]:
        """Raises InvalidInput that names all missing and wrong columns; returns what to tell about further ones."""
        expected = [column.name for column in self.encoder.columns]
        extra = [name for name in frame.columns if name not in set(expected)]
        missing = [name for name in expected if name not in frame.columns]
        problems = []
        if missing:
            near = {name: get_close_matches(name, extra, n=1) for name in missing[:10]}
            hints = [f"{match[0]!r} for {name!r}" for name, match in near.items() if match]
            hint = f" (did you mean {', '.join(hints)}?)" if hints else ""
            problems.append(f"the table lacks columns that the model reads: {listed(missing)}{hint}")
        for column in self.encoder.columns:
            if column.name in frame.columns:
                try:
                    _READERS[column.kind](frame[column.name], column.kind)
                except WrongValues as wrong:
                    problems.append(f"column {column.name!r} must be {IN_WORDS[column.kind]}, but is not ({wrong})")
        refuse(problems)
        return [f"columns that the model does not read, ignored: {listed(extra)}"] if extra else []

    def predict(
        self, frame: pd.DataFrame, *, probabilities: bool = False, check: Callable[[], None] = lambda: None
    ) -> pd.DataFrame:
        """Column `prediction`, then `probability_<class>` for each class where asked for; a row for each row."""
        predicted = predict(self.estimator, self.matrix(frame), check)
        if self.labels is None:
            return pd.DataFrame({"prediction": predicted})
        columns: dict[str, Any] = {"prediction": self.labels.decode(predicted.argmax(axis=1))}
        if probabilities:
            for index, name in enumerate(self.labels.names):
                columns[f"probability_{name}"] = predicted[:, index]
        return pd.DataFrame(columns)

    def matrix(self, frame: pd.DataFrame) -> Matrix:
        """The encoded rows, in the precision that the estimator was trained with."""
        return self.encoder.transform(frame, double=getattr(self.estimator, "double", False))

    def files(self, file: str) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Its files, and what belongs into the manifest, for `load`."""
        content, stored = self.estimator.dump()
        labels = {"kind": self.labels.kind, "classes": list(self.labels.classes)} if self.labels else None
        encoder = json.dumps(self.encoder.to_json()).encode()
        return {file: content, ENCODER_FILE: encoder}, {"estimator": stored, "labels": labels}


def load(stored: StoredModel, threads: int = 1) -> Predictor:
    """The predictor of a stored model. Raises InvalidInput for a model that cannot be one."""
    try:
        return _load(stored, threads)
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001
        kind = type(error).__name__
        raise InvalidInput(
            f"model {stored.model.name!r} holds what is no model of ours ({kind}): train it again"
        ) from None


def _load(stored: StoredModel, threads: int) -> Predictor:
    labels: Mapping[str, Any] | None = stored.manifest["labels"]
    model_type = stored.model.model_type
    if model_type not in estimators.STEPS:
        raise ValueError(f"there is no model type {model_type!r}")
    content = stored.files[estimators.file_of(model_type)]
    return Predictor(
        Encoder.from_json(json.loads(stored.files[ENCODER_FILE])),
        estimators.load(model_type, content, stored.manifest["estimator"], threads),
        Labels(Kind(labels["kind"]), tuple(labels["classes"])) if labels else None,
    )


_READERS: Mapping[Kind, Callable[[pd.Series, Kind], object]] = {
    Kind.DOUBLE: numbers,
    Kind.LONG: numbers,
    Kind.BOOLEAN: numbers,
    Kind.STRING: lambda column, _: texts(column),
    Kind.DATETIME: lambda column, _: moments(column),
}
