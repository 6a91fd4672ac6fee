"""`towpath-worker --handlers support.tiny_training`: trainings that take no time and import no pandas.

What they stage, report and become is as with any other training: only the learning is left out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from towpath.v1 import job_pb2, model_pb2
from towpath_worker import Context, handler, registry, staging
from towpath_worker.handlers import BUILTIN


def train(ctx: Context, spec: Any) -> job_pb2.TrainResult:
    """Stage a model of nothing; where the data are a named pipe, not before somebody has written into it."""
    if spec.data.path:
        wait_at_gate(ctx, spec.data.path)
    model = model_pb2.Model(
        name=spec.model_name or "tiny",
        worker_id=ctx.worker_id,
        tenant=ctx.tenant,
        user=ctx.user,
        model_type="xgboost",
        task_type=model_pb2.TASK_TYPE_REGRESSION,
        target_column=spec.target_column,
        job_id=ctx.job_id,
    )
    lease = (ctx.job_id, ctx.lease_token)
    return job_pb2.TrainResult(model=staging.stage(ctx.folders, model, {"model.ubj": b"trees"}, {}, lease))


@handler("tiny.gate")
def wait_at_gate(ctx: Context, path: str) -> str:
    """Say which process runs it, then wait until somebody has written into the named pipe."""
    ctx.progress(10, str(os.getpid()), phase="gate")
    return Path(path).read_text(encoding="utf-8")


BUILTIN["train"] = train  # type: ignore[assignment]
registry.NEEDS["train"] = ()
