# ruff: noqa: N802
"""ModelService: where models lie."""

from __future__ import annotations

from towpath.v1 import model_service_pb2 as pb
from towpath.v1 import model_service_pb2_grpc
from towpath_server.core.records import ModelRecord
from towpath_server.rpc import pages
from towpath_server.rpc.auth import caller
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.models import model_to_proto
from towpath_server.scheduler.catalogue import Catalogue


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """The catalogue of models."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        """Models, newest first, page by page."""
        worker_id = ids.read(ids.WORKER, request.worker_id) if request.worker_id else None
        wanted = request.name_prefix, request.model_type, request.task_type or None, worker_id
        models = self._catalogue.find(caller(), *wanted)
        page, token = pages.cut(request, models, _newest_first, model_to_proto)
        return pb.ListModelsResponse(models=page, next_page_token=token)

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        """One model."""
        return pb.GetModelResponse(model=model_to_proto(self._catalogue.model(caller(), request.model)))


def _newest_first(model: ModelRecord) -> pages.Key:
    return -model.create_time, -model.model_id, model.worker_id
