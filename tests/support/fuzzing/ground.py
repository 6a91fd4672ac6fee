"""A scheduler with something in it to name: jobs in several states, workers, leases, a token, a model, a queue."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import grpc
import grpc.aio

from support.bare_worker import BareWorker
from support.fuzzing.messages import Words
from support.fuzzing.siege import Metadata
from towpath.v1 import auth_service_pb2, job_pb2, job_service_pb2, model_pb2, queue_service_pb2, worker_service_pb2
from towpath.v1.auth_service_pb2_grpc import AuthServiceStub
from towpath.v1.job_service_pb2_grpc import JobServiceStub
from towpath.v1.queue_service_pb2_grpc import QueueServiceStub
from towpath.v1.worker_service_pb2_grpc import WorkerServiceStub


def bearer(secret: str) -> Metadata:
    """The metadata of whoever has this secret."""
    return (("authorization", f"Bearer {secret}"),)


async def token(channel: grpc.aio.Channel, by: Metadata, role: Any, user: str = "") -> tuple[str, str]:
    """A new token: its id and its secret."""
    stub: Any = AuthServiceStub(channel)
    made = await stub.CreateToken(auth_service_pb2.CreateTokenRequest(name="x", user=user, role=role), metadata=by)
    return made.token.token_id, made.secret


async def furnish(channel: grpc.aio.Channel, metadata: Metadata) -> Words:
    """Make it, and say what everything is called."""
    jobs: Any = JobServiceStub(channel)

    async def create(**fields: Any) -> job_pb2.Job:
        job = job_pb2.Job(custom=job_pb2.CustomSpec(type="echo"), **fields)
        made: job_pb2.Job = (await jobs.CreateJob(job_service_pb2.CreateJobRequest(job=job), metadata=metadata)).job
        return made

    queues: Any = QueueServiceStub(channel)
    keys = [secrets.token_hex(4) for _ in range(20)]
    made = await asyncio.gather(*(create(dedupe_key=key, labels={"a": "b"}) for key in keys))
    for job in made[:5]:
        await jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job.job_id), metadata=metadata)
    for job in made[5:8]:
        await jobs.PauseJob(job_service_pb2.PauseJobRequest(job_id=job.job_id), metadata=metadata)
    await queues.ResumeQueue(queue_service_pb2.ResumeQueueRequest(name="default"), metadata=metadata)
    worker = BareWorker(channel, metadata, slots=8)
    session = await worker.register()
    leases = await worker.lease(8)
    model_id, name = "mdl_0d5t8x2k4m9qc", "flights"
    models: Any = WorkerServiceStub(channel)
    model = model_pb2.Model(model_id=model_id, name=name, version=1, model_type="xgboost")
    await models.SyncModels(
        worker_service_pb2.SyncModelsRequest(
            worker_id=session.worker_id, session_id=session.session_id, models=[model]
        ),
        metadata=metadata,
    )
    token_id, _ = await token(channel, metadata, auth_service_pb2.ROLE_SUBMITTER)
    named = [job.job_id for job in made]
    return Words(
        {
            "job_id": named,
            "job_ids": named,
            "etag": ["", made[0].etag, made[-1].etag],
            "lease_token": [lease.lease_token for lease in leases],
            "worker_id": [session.worker_id],
            "session_id": [session.session_id],
            "token_id": [token_id],
            "model": [model_id, name, f"{name}@1"],
            "model_id": [model_id],
            "model_name": [name],
            "type": ["echo", "x.y"],
            "job_types": ["echo", "x.y"],
            "queue": ["default", ""],
            "name": ["default", "flights", "a"],
            "page_token": [""],
            "order_by": ["", "create_time desc"],
            "request_id": [f"request-{number}" for number in range(500)],
            "user": ["", "somebody"],
            "tenant": ["another"],
            "paths": ["priority", "labels", "ttl", "annotations"],
            "update_mask": ["priority"],
            "dedupe_key": keys[:3],
        }
    )
