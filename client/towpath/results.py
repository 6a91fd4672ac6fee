"""What came of a job, as Python values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from towpath import tables
from towpath.fleet import Model
from towpath.records import Record
from towpath.values import from_value

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from towpath.v1 import job_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureImportance(Record):
    """The share of one feature; all shares of a model add up to 1."""

    feature: str
    importance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult(Record):
    """What came of a training; metrics are of the test rows, durations are seconds by phase."""

    model: Model
    metrics: dict[str, float]
    feature_importances: tuple[FeatureImportance, ...]
    train_row_count: int
    test_row_count: int
    feature_count: int
    row_count: int
    durations: dict[str, float]
    notes: tuple[str, ...]

    @property
    def model_id(self) -> str:
        """The new model's id."""
        return self.model.model_id


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultRef(Record):
    """A result that stays on the worker's machine as a file."""

    worker_id: str
    path: str
    media_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction(Record):
    """What came of a prediction: a table with the column `prediction` and, where asked for, `probability_<class>`.

    `output` is set instead where the predictions went to a file on the worker's machine; the table is empty then.
    """

    model_id: str
    model_name: str
    row_count: int
    output: ResultRef | None
    durations: dict[str, float]
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict a row."""
        return tables.to_rows(self._message.predictions)

    @property
    def values(self) -> list[Any]:
        """The column `prediction`."""
        return [row["prediction"] for row in self.rows]

    @property
    def table(self) -> pyarrow.Table:
        """As a pyarrow.Table; needs pyarrow."""
        return tables.to_arrow(self._message.predictions)

    def to_pandas(self) -> pandas.DataFrame:
        """As a DataFrame; needs pandas."""
        return tables.to_pandas(self._message.predictions)

    def __len__(self) -> int:
        return self.row_count

    @property
    def _message(self) -> job_pb2.PredictResult:
        return cast("job_pb2.PredictResult", self.proto)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelList(Record):
    """The models on a worker's machine, newest first; `total_count` also counts those past the limit."""

    models: tuple[Model, ...]
    total_count: int

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)


def from_job_result(message: job_pb2.JobResult) -> Any:
    """TrainResult, Prediction, ModelList, ResultRef, or a custom handler's plain Python value."""
    match message.WhichOneof("result"):
        case "train":
            return TrainResult.from_proto(message.train)
        case "predict":
            return Prediction.from_proto(message.predict)
        case "list_models":
            return ModelList.from_proto(message.list_models)
        case "custom":
            return from_value(message.custom.value)
        case "ref":
            return ResultRef.from_proto(message.ref)
        case _:
            return None
