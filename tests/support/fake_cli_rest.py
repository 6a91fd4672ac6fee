# ruff: noqa: N802 - the methods are named by the contract
"""Canned queues, workers, tokens, models and results for tests of the command line."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.struct_pb2 import ListValue

from towpath.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    auth_service_pb2,
    auth_service_pb2_grpc,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    job_pb2,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    queue_service_pb2,
    queue_service_pb2_grpc,
    table_pb2,
    worker_pb2,
)

NEW_SECRET = "tok-secret-just-made"
WORKER_ID = "wkr_0000000000001"
TOKEN_ID = "tok_0000000000001"
MODEL_ID = "mdl_0000000000001"
NASTY = "name\x1b[31m\u202e\r\nsecond line"

Context = grpc.ServicerContext


def unserved(context: Context) -> Any:
    """Refuses what the command line never calls."""
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")


class Rest(
    queue_service_pb2_grpc.QueueServiceServicer,
    fleet_service_pb2_grpc.FleetServiceServicer,
    auth_service_pb2_grpc.AuthServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
    admin_service_pb2_grpc.AdminServiceServicer,
):
    """Queues, workers, tokens, models and the scheduler, canned."""

    def __init__(self, jobs: dict[str, job_pb2.Job], revoked: list[str]) -> None:
        self._jobs = jobs
        self._revoked = revoked

    def ListQueues(self, request: Any, context: Context) -> Any:
        return queue_service_pb2.ListQueuesResponse(queues=[queue("default"), queue("slow", paused=True)])

    def PauseQueue(self, request: Any, context: Context) -> Any:
        return queue_service_pb2.PauseQueueResponse(queue=queue(request.name, paused=True))

    def ResumeQueue(self, request: Any, context: Context) -> Any:
        return queue_service_pb2.ResumeQueueResponse(queue=queue(request.name))

    def PeekQueue(self, request: Any, context: Context) -> Any:
        waiting = [job for job in self._jobs.values() if job.queue == request.name]
        return queue_service_pb2.PeekQueueResponse(jobs=sorted(waiting, key=lambda job: -job.priority))

    def ListWorkers(self, request: Any, context: Context) -> Any:
        return fleet_service_pb2.ListWorkersResponse(workers=[worker()])

    def GetWorker(self, request: Any, context: Context) -> Any:
        if request.worker_id != WORKER_ID:
            context.abort(grpc.StatusCode.NOT_FOUND, f"No worker {request.worker_id} here.")
        return fleet_service_pb2.GetWorkerResponse(worker=worker())

    def DrainWorker(self, request: Any, context: Context) -> Any:
        found = worker()
        found.state = worker_pb2.WORKER_STATE_DRAINING
        return fleet_service_pb2.DrainWorkerResponse(worker=found)

    def RemoveWorker(self, request: Any, context: Context) -> Any:
        # The first came with a credential of its own.
        revoked = TOKEN_ID if request.worker_id == WORKER_ID else ""
        return fleet_service_pb2.RemoveWorkerResponse(revoked_token_id=revoked)

    def CreateToken(self, request: Any, context: Context) -> Any:
        made = token(request.name, request.role)
        if request.name != "from an older scheduler":
            made.tenant, made.share = request.tenant or made.tenant, request.share
        return auth_service_pb2.CreateTokenResponse(token=made, secret=NEW_SECRET)

    def ListTokens(self, request: Any, context: Context) -> Any:
        return auth_service_pb2.ListTokensResponse(tokens=[token("first", auth_service_pb2.ROLE_ADMIN)])

    def RevokeToken(self, request: Any, context: Context) -> Any:
        self._revoked.append(request.token_id)
        return auth_service_pb2.RevokeTokenResponse(token=token("first", auth_service_pb2.ROLE_ADMIN))

    def RotateToken(self, request: Any, context: Context) -> Any:
        return auth_service_pb2.RotateTokenResponse(token=token("mine", auth_service_pb2.ROLE_ADMIN), secret=NEW_SECRET)

    def CreateEnrollmentToken(self, request: Any, context: Context) -> Any:
        invited = token(request.name, auth_service_pb2.ROLE_ENROLLMENT)
        invited.user, invited.share = request.user or "ada", request.share
        return auth_service_pb2.CreateEnrollmentTokenResponse(token=invited, secret=NEW_SECRET)

    def EnrollWorker(self, request: Any, context: Context) -> Any:
        return unserved(context)

    def WhoAmI(self, request: Any, context: Context) -> Any:
        return auth_service_pb2.WhoAmIResponse(token=token("mine", auth_service_pb2.ROLE_ADMIN))

    def ListModels(self, request: Any, context: Context) -> Any:
        return model_service_pb2.ListModelsResponse(models=[train_result().model])

    def GetServerInfo(self, request: Any, context: Context) -> Any:
        return admin_service_pb2.GetServerInfoResponse(
            version="0.1.0", scheduler_id="sch_0000000000001", store="memory"
        )

    def GetStats(self, request: Any, context: Context) -> Any:
        return admin_service_pb2.GetStatsResponse(worker_count=1, slot_count=4, free_slot_count=3)

    def ListAuditEvents(self, request: Any, context: Context) -> Any:
        events = [
            admin_service_pb2.AuditEvent(
                event_id=2,
                action=request.action or "token.created",
                tenant="default",
                user=request.user or "ada",
                origin="10.0.0.1:5",
                subject=request.subject or NASTY,
                details={"name": NASTY, "role": "worker", "empty": "", "sly": 'a" role=admin'},
            ),
            admin_service_pb2.AuditEvent(event_id=1, action="login.refused", origin=NASTY),
        ]
        return admin_service_pb2.ListAuditEventsResponse(events=events[: request.page_size])

    def ListQuotas(self, request: Any, context: Context) -> Any:
        return unserved(context)

    def SetQuota(self, request: Any, context: Context) -> Any:
        return unserved(context)

    def DeleteQuota(self, request: Any, context: Context) -> Any:
        return unserved(context)

    def CleanupJobs(self, request: Any, context: Context) -> Any:
        return unserved(context)

    def GetModel(self, request: Any, context: Context) -> Any:
        return unserved(context)

    def GetQueue(self, request: Any, context: Context) -> Any:
        return unserved(context)


def queue(name: str, *, paused: bool = False) -> queue_service_pb2.Queue:
    """A queue with two waiting jobs."""
    return queue_service_pb2.Queue(name=name, paused=paused, queued_count=2, running_count=1)


def worker() -> worker_pb2.Worker:
    """A worker with a name that would act on a terminal."""
    return worker_pb2.Worker(
        worker_id=WORKER_ID, name=NASTY, state=worker_pb2.WORKER_STATE_READY, slots=4, job_types=["train", "predict"]
    )


def token(name: str, role: auth_service_pb2.Role.ValueType) -> auth_service_pb2.Token:
    """A token without its secret."""
    return auth_service_pb2.Token(token_id=TOKEN_ID, name=name, user="ada", tenant="default", role=role)


def train_result() -> job_pb2.TrainResult:
    """What came of a training."""
    model = model_pb2.Model(
        model_id=MODEL_ID,
        name="iris",
        version=2,
        worker_id=WORKER_ID,
        model_type="xgboost",
        task_type=model_pb2.TASK_TYPE_CLASSIFICATION,
        target_column="species",
        size_bytes=123_456,
        metrics={"accuracy": 0.9375},
    )
    shares = [job_pb2.FeatureImportance(feature=f"f{place}", importance=1 / 2**place) for place in range(1, 13)]
    return job_pb2.TrainResult(
        model=model,
        metrics={"accuracy": 0.9375, "log_loss": 0.125},
        feature_importances=shares,
        train_row_count=120,
        test_row_count=30,
        feature_count=12,
        row_count=150,
        durations={"fit": 1.5, "load": 0.25},
        notes=["2 rows without a target were dropped"],
    )


def predict_result() -> job_pb2.PredictResult:
    """Three predictions."""
    table = table_pb2.InlineTable(columns=["prediction", "probability_yes"])
    for label, chance in (("yes", 0.75), ("no", 0.25), ("no", None)):
        row = ListValue()
        row.extend((label, chance))
        table.rows.append(row)
    return job_pb2.PredictResult(model_id=MODEL_ID, model_name="iris@2", row_count=3, predictions=table)
