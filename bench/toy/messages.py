"""The toy's own messages and calls, described here instead of generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto
SERVICE = "towpath.bench.Toy"

#: Fields by name, in the order of their numbers. "Job" is one message of that name, "Job*" many.
SHAPES: Mapping[str, Mapping[str, Field.Type.ValueType | str]] = {
    "Job": {
        "queue": Field.TYPE_STRING,
        "kind": Field.TYPE_STRING,
        "priority": Field.TYPE_INT32,
        "payload": Field.TYPE_BYTES,
    },
    "Jobs": {"jobs": "Job*"},
    "Lease": {"id": Field.TYPE_INT64, "token": Field.TYPE_STRING, "job": "Job"},
    "Leases": {"leases": "Lease*"},
    "Report": {"id": Field.TYPE_INT64, "token": Field.TYPE_STRING, "result": Field.TYPE_BYTES},
    "Reports": {"credit": Field.TYPE_INT32, "reports": "Report*"},
    "Count": {"count": Field.TYPE_INT64},
    "Ids": {"first": Field.TYPE_INT64},
    "Result": {"result": Field.TYPE_BYTES},
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="toy.proto", package="towpath.bench", syntax="proto3")
    for name, fields in SHAPES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            if isinstance(kind, str):
                one = message.field.add(name=field, number=number, type=Field.TYPE_MESSAGE)
                one.label = Field.LABEL_REPEATED if kind.endswith("*") else Field.LABEL_OPTIONAL
                one.type_name = f".towpath.bench.{kind.removesuffix('*')}"
            else:
                message.field.add(name=field, number=number, type=kind, label=Field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"towpath.bench.{name}")) for name in SHAPES
    }


_made = _classes()
Job, Jobs, Lease, Leases = _made["Job"], _made["Jobs"], _made["Lease"], _made["Leases"]
Report, Reports = _made["Report"], _made["Reports"]
Count, Ids, Result = _made["Count"], _made["Ids"], _made["Result"]

#: What goes in and what comes back.
CALLS: Mapping[str, tuple[Any, Any]] = {
    "Submit": (Jobs, Ids),
    "Wait": (Count, Count),
    "Run": (Job, Result),
    "Work": (Reports, Leases),
}


def unary(channel: grpc.aio.Channel, name: str) -> Callable[[Any], Any]:
    """The client's side of a unary call."""
    request, response = CALLS[name]
    return channel.unary_unary(f"/{SERVICE}/{name}", request.SerializeToString, response.FromString)


def stream(channel: grpc.aio.Channel, name: str) -> Callable[[], Any]:
    """The client's side of a stream in both directions."""
    request, response = CALLS[name]
    return channel.stream_stream(f"/{SERVICE}/{name}", request.SerializeToString, response.FromString)


def handlers(servicer: object) -> grpc.GenericRpcHandler:
    """The server's side: a method of the servicer for each call."""
    made = {}
    for name, (request, response) in CALLS.items():
        shape = grpc.stream_stream_rpc_method_handler if name == "Work" else grpc.unary_unary_rpc_method_handler
        made[name] = shape(getattr(servicer, name.lower()), request.FromString, response.SerializeToString)
    return grpc.method_handlers_generic_handler(SERVICE, made)
