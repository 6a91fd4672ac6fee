"""Models of the catalogue. What the scheduler does not decide by stays a serialized `towpath.v1.Model`."""

from __future__ import annotations

from towpath.v1 import model_pb2
from towpath_server.core.records import ModelRecord
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.times import moment


def model_record(message: model_pb2.Model) -> ModelRecord:
    """A model as a worker tells it; the scheduler decides whose it is, and fills in where it lies."""
    return ModelRecord(
        model_id=ids.read(ids.MODEL, message.model_id),
        worker_id=0,
        tenant=message.tenant.replace("\0", " "),
        user=message.user.replace("\0", " "),
        name=message.name.replace("\0", " "),
        version=message.version,
        model_type=message.model_type.replace("\0", " "),
        task_type=message.task_type,
        create_time=moment(message.create_time),
        body=message.SerializeToString(deterministic=True),
    )


def model_to_proto(record: ModelRecord) -> model_pb2.Model:
    """A model of the catalogue."""
    message = model_pb2.Model.FromString(record.body)
    message.worker_id = ids.show(ids.WORKER, record.worker_id)
    message.tenant = record.tenant
    message.user = record.user
    return message
