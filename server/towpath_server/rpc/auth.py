"""Who calls, and from where."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from typing import Protocol
from urllib.parse import unquote

from towpath_server.core.errors import PermissionDenied, Unauthenticated
from towpath_server.core.records import Principal
from towpath_server.rpc.roles import OPEN, ROLES

MOST_ORIGIN = 200

_caller: ContextVar[Principal] = ContextVar("caller")


class Authenticator(Protocol):
    """What knows the tokens."""

    def authenticate(self, secret: str) -> Principal:
        """Whose secret this is. Raises `Unauthenticated`."""


def caller() -> Principal:
    """Who makes the call that is being served."""
    return _caller.get()


def admit(access: Authenticator, method: str, metadata: object, peer: str = "") -> Principal | None:
    """Let the caller in, or raise `Unauthenticated` or `PermissionDenied`. None where the method is open to all.

    `peer` is what grpc calls the other end of the connection.
    """
    if method in OPEN:
        return None
    principal = access.authenticate(_bearer(metadata))
    if principal.role not in ROLES.get(method, ()):
        raise PermissionDenied(method=method.rpartition("/")[2])
    principal = replace(principal, origin=origin(peer))
    _caller.set(principal)
    return principal


def is_let_in(access: Authenticator, method: str, metadata: object) -> bool:
    """Whether `admit` would let the caller in; also where it fails, which is for it to tell."""
    try:
        admit(access, method, metadata)
    except (PermissionDenied, Unauthenticated):
        return False
    except Exception:  # noqa: BLE001 - it comes again, where its text is not shown
        return True
    return True


def origin(peer: str) -> str:
    """The address of the other end, as `203.0.113.7:51234`: that of the proxy where there is one, whatever headers say.

    It goes into the audit and into the log: one line, whatever a socket's path contains.
    """
    kind, colon, rest = peer.partition(":")
    address = unquote(rest if colon and kind in ("ipv4", "ipv6") else peer)
    return "".join(letter if letter.isprintable() else "?" for letter in address[:MOST_ORIGIN])


def shown(metadata: object) -> str | None:
    """The secret that a call carries, whatever it is worth; None where it carries none that could be one."""
    try:
        return _bearer(metadata)
    except Unauthenticated:
        return None


def _bearer(metadata: object) -> str:
    # grpc.aio gives pairs, or None.
    pairs = metadata if isinstance(metadata, tuple | list) else ()
    values = [value for key, value in pairs if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        raise Unauthenticated
    scheme, _, secret = values[0].partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated
    return secret
