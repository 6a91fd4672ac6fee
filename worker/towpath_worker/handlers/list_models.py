"""The job type `list_models`: what lies on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towpath.v1 import job_pb2
from towpath_worker import models

if TYPE_CHECKING:
    from towpath_worker.handler import Context

DEFAULT_LIMIT = 100


def list_models(ctx: Context, spec: job_pb2.ListModelsSpec) -> job_pb2.ListModelsResult:
    """The user's models that fit all filters, newest first."""
    fitting = [
        model
        for model in models.scan(ctx.folders, ctx.tenant, ctx.user)
        if model.name.startswith(spec.name_prefix)
        and spec.model_type in ("", model.model_type)
        and spec.task_type in (0, model.task_type)
    ]
    return job_pb2.ListModelsResult(models=fitting[: spec.limit or DEFAULT_LIMIT], total_count=len(fitting))
