"""Calls on queues, workers, models and the scheduler itself."""

from __future__ import annotations

from towpath._async.calls import AsyncCalls
from towpath.enums import TaskType
from towpath.fleet import AuditEvent, Model, Queue, ServerInfo, ServerStats, Worker
from towpath.options import Seconds
from towpath.requests import task_type_number
from towpath.types import Job
from towpath.v1 import admin_service_pb2, fleet_service_pb2, model_service_pb2, queue_service_pb2
from towpath.values import to_duration


class AsyncFleetCalls(AsyncCalls):
    """What surrounds the jobs."""

    async def queues(self) -> list[Queue]:
        """All queues of the tenant, by name."""
        pages = self._connection.pages(self._stubs.queues.ListQueues, queue_service_pb2.ListQueuesRequest())
        return [Queue.from_proto(queue) async for page in pages for queue in page.queues]

    async def queue(self, name: str) -> Queue:
        """One queue."""
        request = queue_service_pb2.GetQueueRequest(name=name)
        return Queue.from_proto((await self._connection.call(self._stubs.queues.GetQueue, request)).queue)

    async def peek(self, queue: str = "default", *, limit: int = 50) -> list[Job]:
        """The jobs that wait in a queue, in the order in which they go, at most `limit` of them."""
        request = queue_service_pb2.PeekQueueRequest(name=queue, page_size=min(limit, 1000))
        found: list[Job] = []
        async for page in self._connection.pages(self._stubs.queues.PeekQueue, request):
            found.extend(map(Job.from_proto, page.jobs))
            if len(found) >= limit:
                break
        return found[:limit]

    async def pause_queue(self, name: str) -> Queue:
        """Hands out no more jobs of a queue; what runs goes on."""
        request = queue_service_pb2.PauseQueueRequest(name=name)
        return Queue.from_proto((await self._connection.call(self._stubs.queues.PauseQueue, request)).queue)

    async def resume_queue(self, name: str) -> Queue:
        """Hands them out again."""
        request = queue_service_pb2.ResumeQueueRequest(name=name)
        return Queue.from_proto((await self._connection.call(self._stubs.queues.ResumeQueue, request)).queue)

    async def workers(self, *, include_offline: bool = False) -> list[Worker]:
        """The workers that the caller may use: its own and those shared with its tenant; an admin sees all of these."""
        request = fleet_service_pb2.ListWorkersRequest(include_offline=include_offline)
        pages = self._connection.pages(self._stubs.fleet.ListWorkers, request)
        return [Worker.from_proto(worker) async for page in pages for worker in page.workers]

    async def worker(self, worker_id: str) -> Worker:
        """One worker."""
        request = fleet_service_pb2.GetWorkerRequest(worker_id=worker_id)
        return Worker.from_proto((await self._connection.call(self._stubs.fleet.GetWorker, request)).worker)

    async def drain_worker(self, worker_id: str) -> Worker:
        """Lets a worker finish what it runs and then stop."""
        request = fleet_service_pb2.DrainWorkerRequest(worker_id=worker_id)
        return Worker.from_proto((await self._connection.call(self._stubs.fleet.DrainWorker, request)).worker)

    async def remove_worker(self, worker_id: str) -> str:
        """Forgets a worker: what it runs goes to others, and its models are not known any more.

        Returns the id of the credential that was revoked with it, so that it does not come back; empty where the worker
        came with a token that others use too.
        """
        request = fleet_service_pb2.RemoveWorkerRequest(worker_id=worker_id)
        return (await self._connection.call(self._stubs.fleet.RemoveWorker, request)).revoked_token_id

    async def models(
        self,
        *,
        name_prefix: str = "",
        model_type: str = "",
        task_type: str | TaskType | None = None,
        worker_id: str = "",
    ) -> list[Model]:
        """The catalogue: models on all workers, newest first."""
        request = model_service_pb2.ListModelsRequest(
            name_prefix=name_prefix,
            model_type=model_type,
            worker_id=worker_id,
            task_type=task_type_number(task_type),
        )
        pages = self._connection.pages(self._stubs.models.ListModels, request)
        return [Model.from_proto(model) async for page in pages for model in page.models]

    async def model(self, model: str) -> Model:
        """One model, by id, `name` (its newest version) or `name@version`."""
        request = model_service_pb2.GetModelRequest(model=model)
        return Model.from_proto((await self._connection.call(self._stubs.models.GetModel, request)).model)

    async def server_info(self) -> ServerInfo:
        """Which scheduler this is."""
        request = admin_service_pb2.GetServerInfoRequest()
        response = await self._connection.call(self._stubs.admin.GetServerInfo, request)
        return ServerInfo.from_proto(response)

    async def server_stats(self) -> ServerStats:
        """What it holds and does."""
        request = admin_service_pb2.GetStatsRequest()
        response = await self._connection.call(self._stubs.admin.GetStats, request)
        return ServerStats.from_proto(response)

    async def audit(self, *, action: str = "", user: str = "", subject: str = "", limit: int = 100) -> list[AuditEvent]:
        """Who did what, the newest first, at most `limit` events; for admins.

        `action` as `job.cancelled`, or `token.` for all that begin so; `subject` is the id of what it was done to.
        """
        request = admin_service_pb2.ListAuditEventsRequest(
            action=action, user=user, subject=subject, page_size=min(max(limit, 1), 1000)
        )
        found: list[AuditEvent] = []
        async for page in self._connection.pages(self._stubs.admin.ListAuditEvents, request):
            found.extend(map(AuditEvent.from_proto, page.events))
            if len(found) >= limit:
                break
        return found[:limit]

    async def cleanup(self, min_age: Seconds | None = None) -> int:
        """Deletes final jobs, only those final for `min_age` seconds where it is given; returns how many."""
        request = admin_service_pb2.CleanupJobsRequest()
        if min_age is not None:
            request.min_age.CopyFrom(to_duration(min_age, "min_age"))
        return (await self._connection.call(self._stubs.admin.CleanupJobs, request)).deleted_count
