# ruff: noqa: N802
"""WorkerService: what workers call."""

from __future__ import annotations

from collections.abc import AsyncIterator

from towpath.v1 import worker_service_pb2 as pb
from towpath.v1 import worker_service_pb2_grpc
from towpath_server.rpc.auth import caller
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.models import model_record
from towpath_server.rpc.convert.times import length
from towpath_server.rpc.convert.workers import leases_to_bytes, registered_to_proto, registration
from towpath_server.rpc.reporting import report_jobs
from towpath_server.scheduler.workers import Workers


class WorkerServicer(worker_service_pb2_grpc.WorkerServiceServicer):
    """Work, for those who do it."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def RegisterWorker(self, request: pb.RegisterWorkerRequest, context: object) -> pb.RegisterWorkerResponse:
        """Begins a session."""
        return registered_to_proto(await self._workers.register(caller(), registration(request)))

    async def LeaseJobs(self, request: pb.LeaseJobsRequest, context: object) -> bytes:  # type: ignore[override]
        """Asks for jobs and waits a while for them."""
        session = ids.read(ids.WORKER, request.worker_id), request.session_id
        wait = length(request.wait_timeout) if request.HasField("wait_timeout") else None
        jobs = await self._workers.lease(caller(), *session, request.poll_id, request.max_jobs, wait)
        # What does not fit is an offer that was never confirmed: it goes back to the head of its lane.
        return leases_to_bytes(jobs)

    def ReportJobs(
        self, request_iterator: AsyncIterator[pb.ReportJobsRequest], context: object
    ) -> AsyncIterator[pb.ReportJobsResponse]:
        """Tells what becomes of leased jobs, and hears what to do with them."""
        return report_jobs(self._workers, caller(), request_iterator)

    async def SyncModels(self, request: pb.SyncModelsRequest, context: object) -> pb.SyncModelsResponse:
        """Says which models lie on the worker's machine."""
        models = [model_record(model) for model in request.models]
        session = ids.read(ids.WORKER, request.worker_id), request.session_id
        await self._workers.sync_models(caller(), *session, models)
        return pb.SyncModelsResponse()

    async def DeregisterWorker(
        self, request: pb.DeregisterWorkerRequest, context: object
    ) -> pb.DeregisterWorkerResponse:
        """Ends a session."""
        await self._workers.deregister(caller(), ids.read(ids.WORKER, request.worker_id), request.session_id)
        return pb.DeregisterWorkerResponse()
