"""Results of jobs, as tables for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from towpath import wording
from towpath.cli import output, times

if TYPE_CHECKING:
    from towpath.fleet import Model
    from towpath.results import FeatureImportance, Prediction, ResultRef, TrainResult
    from towpath.types import Job

MOST_FEATURES = 10
MOST_ROWS = 20
BAR_WIDTH = 30
LEADING = ("roc_auc", "accuracy", "r2", "rmse")
PHASES = ("load", "prepare", "fit", "evaluate", "save", "predict", "write")


def result(found: Any) -> None:
    """Whatever came of a job."""
    from towpath import results

    match found:
        case results.TrainResult():
            train(found)
        case results.Prediction():
            predict(found)
        case results.ModelList():
            models(found.models)
        case results.ResultRef():
            output.line(ref(found))
        case str():
            output.line(found)
        case _:
            # A Struct has no order of its own.
            output.line(json.dumps(found, indent=2, ensure_ascii=False, sort_keys=True))


def document(job: Job) -> dict[str, Any]:
    """A job for machines: predictions that came as Arrow are written out as columns and rows."""
    found = job.to_dict()
    table = found.get("result", {}).get("predict", {}).get("predictions", {})
    if "arrow" in table:
        # Without pyarrow it stays as it came.
        with suppress(ImportError):
            rows = job.result.rows
            del table["arrow"]
            table |= {
                "columns": list(rows[0]) if rows else [],
                "rows": [list(map(_plain, row.values())) for row in rows],
            }
    return found


def train(found: TrainResult) -> None:
    """Metrics, the most important features as bars, and how long each phase took."""
    model = found.model
    output.fields(
        [
            ("model", f"{model.ref} ({model.model_type}, {model.task_type.lower()})"),
            ("id", model.model_id),
            ("rows", f"{found.row_count:,} ({found.train_row_count:,} to train, {found.test_row_count:,} to test)"),
            ("features", found.feature_count),
        ]
    )
    output.line()
    figures(found.metrics)
    if found.feature_importances:
        output.line()
        importances(found.feature_importances)
    durations(found.durations)
    notes(found.notes)


def figures(metrics: Mapping[str, float]) -> None:
    """A table of metrics."""
    output.table(
        ("metric", "value"),
        [(name, wording.number(value)) for name, value in sorted(metrics.items())],
        right=("value",),
    )


def importances(found: Sequence[FeatureImportance]) -> None:
    """The most important features as bars."""
    shown = found[:MOST_FEATURES]
    most = max((one.importance for one in shown), default=0) or 1
    width = max(len(output.printable(one.feature)) for one in shown)
    for one in shown:
        bar = "█" * max(round(one.importance / most * BAR_WIDTH), 0)
        output.line(f"{output.printable(one.feature).ljust(width)}  {one.importance:6.1%}  {bar}".rstrip())
    if more := len(found) - len(shown):
        output.line(f"and {more} more")


def durations(found: Mapping[str, float]) -> None:
    """How long each phase took, on one line."""
    if found:
        output.line()
        output.line("took: " + ", ".join(f"{phase} {times.span(seconds)}" for phase, seconds in _in_order(found)))


def notes(found: Sequence[str]) -> None:
    """What the caller should know."""
    for text in found:
        output.line(f"note: {text}")


def predict(found: Prediction) -> None:
    """The first predictions, or where they lie."""
    output.line(f"{found.row_count:,} predictions by {found.model_name or found.model_id}")
    if found.output:
        output.line(ref(found.output))
    else:
        rows = found.rows
        output.line()
        rows_table(rows[:MOST_ROWS])
        if (more := len(rows) - MOST_ROWS) > 0:
            output.line(f"and {more:,} more: --save FILE.csv keeps them all")
    durations(found.durations)
    notes(found.notes)


def rows_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of rows with the same columns."""
    columns = list(rows[0]) if rows else []
    numeric = [name for name in columns if all(isinstance(row[name], int | float) for row in rows)]
    output.table(columns, [[cell(row[name]) for name in columns] for row in rows], right=numeric, empty="No rows.")


def models(found: Sequence[Model]) -> None:
    """A table of models."""
    output.table(
        ("id", "name", "type", "target", "metric", "size", "trained", "worker"),
        [
            (
                model.model_id,
                model.ref,
                model.model_type,
                model.target_column,
                next(
                    (f"{name} {wording.number(model.metrics[name])}" for name in LEADING if name in model.metrics), ""
                ),
                size(model.size_bytes),
                times.moment(model.create_time),
                model.worker_id,
            )
            for model in found
        ],
        right=("size",),
        empty="No models. Train one: towpath train DATA --target COLUMN",
    )


def ref(found: ResultRef) -> str:
    """Where a file lies."""
    return f"{found.path} on {found.worker_id} ({found.media_type}, {size(found.size_bytes)})"


def size(count: float) -> str:
    """Bytes for people: `512 B`, `1.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def cell(value: object) -> str:
    """One value of a table."""
    if value is None:
        return ""
    # As many decimals in each row: probabilities are read as a column.
    return f"{value:.4f}" if isinstance(value, float) and abs(value) < 1 else _other(value)


def _other(value: object) -> str:
    return wording.number(value) if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    """What JSON has for a value; NaN and infinity are null there."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _in_order(found: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(found.items(), key=lambda one: (PHASES.index(one[0]) if one[0] in PHASES else len(PHASES), one[0]))
