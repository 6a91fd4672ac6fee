"""The job type `predict`: a table in, predictions out, inside the message or as a file."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, BinaryIO

from towpath.v1 import job_pb2, table_pb2
from towpath_worker import models, tables
from towpath_worker.errors import InvalidInput
from towpath_worker.handlers.progress import Phases
from towpath_worker.paths import create_for_writing
from towpath_worker.tabular import predictor

if TYPE_CHECKING:
    import pandas as pd

    from towpath_worker.handler import Context

MAX_INLINE_BYTES = 3_000_000
# Of a model's files: a larger one is not kept from one job to the next.
MAX_KEPT_BYTES = 64 << 20
last: dict[str, Any] = {}
_ENDS = {"load": 40.0, "predict": 85.0, "write": 100.0}


def predict(ctx: Context, spec: job_pb2.PredictSpec) -> job_pb2.PredictResult:
    """Predicts with the model of an id, `name` or `name@version`. Raises InvalidInput."""
    if spec.output_path and not spec.output_path.lower().endswith((".csv", ".parquet")):
        raise InvalidInput(f"output_path {spec.output_path!r} must end in .csv or .parquet")
    phases = Phases(ctx, _ENDS)
    with phases.run("load", "loading the model and the table"):
        stored = models.load(ctx.folders, spec.model_id or spec.model_name, ctx.tenant, ctx.user)
        model = _loaded(stored, ctx.threads)
        frame = tables.read(ctx.folders, spec.data, text_columns=model.text_columns, progress=phases.share)
        notes = model.check(frame)
    if spec.probabilities and model.labels is None:
        notes.append("a regression has no probabilities")
    with phases.run("predict", f"predicting {len(frame):,} rows"):
        predictions = model.predict(frame, probabilities=spec.probabilities, check=ctx.raise_if_cancelled)
    result = job_pb2.PredictResult(
        model_id=stored.model.model_id,
        model_name=f"{stored.model.name}@{stored.model.version}",
        row_count=len(predictions),
        notes=notes,
    )
    with phases.run("write", "writing the predictions"):
        if spec.output_path:
            result.output.CopyFrom(_write_output(ctx, predictions, spec.output_path))
        else:
            _answer(ctx, predictions, spec.data, result)
    result.durations.update(phases.durations)
    return result


def _loaded(stored: models.StoredModel, threads: int) -> predictor.Predictor:
    """The model, loaded now or for the job before: its files are read and checked each time, but not parsed."""
    which = (stored.manifest, threads)
    if last.get("which") == which:
        kept: predictor.Predictor = last["model"]
        return kept
    model = predictor.load(stored, threads)
    last.clear()
    if sum(map(len, stored.files.values())) <= MAX_KEPT_BYTES:
        last.update(which=which, model=model)
    return model


def _answer(ctx: Context, predictions: pd.DataFrame, data: table_pb2.DataRef, result: job_pb2.PredictResult) -> None:
    """Predictions inside the message, in the format that the rows came in; a file where that is too large."""
    inline = _inline(predictions, data)
    if inline is not None and inline.ByteSize() <= MAX_INLINE_BYTES:
        result.predictions.CopyFrom(inline)
        return
    result.notes.append("the predictions are too large for a message: they are in a file on the worker's machine")
    ctx.folders.results.mkdir(parents=True, exist_ok=True)
    path = ctx.folders.results / f"{ctx.job_id}.parquet"
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w+b") as file:
        media_type = tables.write(predictions, file, path.name)
        reference = _reference(ctx, file, str(path), media_type)
    partial.replace(path)
    result.output.CopyFrom(reference)


def _inline(predictions: pd.DataFrame, data: table_pb2.DataRef) -> table_pb2.InlineTable | None:
    """None where the size is plainly too large for rows: a value takes at least two bytes in a message."""
    arrow = data.WhichOneof("source") == "path" or bool(data.table.arrow)
    if not arrow and 2 * predictions.size > MAX_INLINE_BYTES:
        return None
    return tables.to_inline(predictions, arrow=arrow)


def _write_output(ctx: Context, predictions: pd.DataFrame, output_path: str) -> job_pb2.ResultRef:
    with create_for_writing(ctx.folders, output_path) as file:
        media_type = tables.write(predictions, file, output_path)
        return _reference(ctx, file, output_path, media_type)


def _reference(ctx: Context, file: BinaryIO, path: str, media_type: str) -> job_pb2.ResultRef:
    file.flush()
    os.fsync(file.fileno())
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return job_pb2.ResultRef(
        worker_id=ctx.worker_id, path=path, media_type=media_type, size_bytes=file.tell(), sha256=digest.hexdigest()
    )
