"""The protos with their rules, which the committed stubs do not carry."""

from __future__ import annotations

from functools import cache
from importlib import resources
from threading import Lock
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

if TYPE_CHECKING:
    from google.protobuf import descriptor_pb2


def rules_file() -> descriptor_pb2.FileDescriptorSet:
    """The protos with their rules."""
    # It takes 50 ms to import.
    from google.protobuf import descriptor_pb2

    raw = resources.files(__package__).joinpath("rules.binpb").read_bytes()
    return descriptor_pb2.FileDescriptorSet.FromString(raw)


def pool() -> descriptor_pool.DescriptorPool:
    """The same, to look types up in."""
    # Threads that come at once must get one and the same: types of two pools are never the same.
    with _making:
        return _pool()


_making = Lock()


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in rules_file().file:
        pool.Add(file)
    return pool


@cache
def message_class(full_name: str) -> type[Message]:
    """A message type of the pool. It is another one than that of the stubs."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(full_name))


def rules_of(what: Any, kind: str) -> Any:
    """The rules of a message, field or oneof of the pool; `kind` says which, as `buf.validate` does."""
    options = what.GetOptions()
    # Parsed anew: what is made for the standard pool takes the rules for unknown fields.
    ruled: Any = message_class(options.DESCRIPTOR.full_name).FromString(options.SerializeToString())
    return ruled.Extensions[pool().FindExtensionByName(f"buf.validate.{kind}")]
