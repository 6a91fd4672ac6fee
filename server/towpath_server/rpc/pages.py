"""Pages of lists, and the tokens that lead from one to the next."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from towpath.v1 import (
    admin_service_pb2,
    auth_service_pb2,
    fleet_service_pb2,
    job_service_pb2,
    model_service_pb2,
    queue_service_pb2,
)

DEFAULT_SIZE = 50
# A page ends before it could outgrow a message.
MAX_PAGE_BYTES = 3 * 1024 * 1024
_DIGEST = 8

PageRequest = (
    admin_service_pb2.ListQuotasRequest
    | admin_service_pb2.ListAuditEventsRequest
    | auth_service_pb2.ListTokensRequest
    | fleet_service_pb2.ListWorkersRequest
    | job_service_pb2.ListJobAttemptsRequest
    | job_service_pb2.ListJobsRequest
    | model_service_pb2.ListModelsRequest
    | queue_service_pb2.ListQueuesRequest
    | queue_service_pb2.PeekQueueRequest
)
# What an item is sorted by; no two of a list have the same.
Key = tuple[int | str, ...]
T = TypeVar("T")
M = TypeVar("M", bound=Message)


def size(request: PageRequest) -> int:
    """How many items the page may have."""
    return request.page_size or DEFAULT_SIZE


def token(request: PageRequest, key: Key) -> str:
    """What leads to the page after the item with this key, in this very list."""
    body = json.dumps(key, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_digest(request, body) + body).decode().rstrip("=")


def after(request: PageRequest) -> Key | None:
    """The key of the last item of the page before; None for the first page."""
    body = _body(request)
    return tuple(json.loads(body)) if body else None


def is_own(request: PageRequest) -> bool:
    """Whether the page token, if there is one, was given by this very list."""
    return not request.page_token or _body(request) is not None


def cut(
    request: PageRequest, items: Iterable[T], order: Callable[[T], Key], show: Callable[[T], M]
) -> tuple[list[M], str]:
    """One page of a whole list, in the order of its keys, and the token of the next."""
    last = after(request)
    keys = {order(item): item for item in items}
    rest = sorted(key for key in keys if last is None or key > last)
    page = within([show(keys[key]) for key in rest[: size(request)]])
    return page, token(request, rest[len(page) - 1]) if len(page) < len(rest) else ""


def within(messages: Sequence[M], most: int = MAX_PAGE_BYTES) -> list[M]:
    """As many of the messages, from the first, as one message can carry; one at least."""
    taken = 0
    for index, message in enumerate(messages):
        taken += message.ByteSize()
        if index and taken > most:
            return list(messages[:index])
    return list(messages)


def _body(request: PageRequest) -> bytes | None:
    text = request.page_token
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    digest, body = raw[:_DIGEST], raw[_DIGEST:]
    return body if body and digest == _digest(request, body) else None


def _digest(request: PageRequest, body: bytes) -> bytes:
    scope = type(request)()
    scope.MergeFrom(request)  # type: ignore[arg-type]
    scope.page_size = 0
    scope.page_token = ""
    what = request.DESCRIPTOR.full_name.encode() + b"\0" + scope.SerializeToString(deterministic=True) + b"\0" + body
    return hashlib.blake2b(what, digest_size=_DIGEST).digest()
