"""Telling the audit of calls that were refused to whoever made them."""

from __future__ import annotations

from towpath_server.core.errors import Forbidden, PermissionDenied, TowpathError, Unauthenticated
from towpath_server.rpc import auth
from towpath_server.rpc.context import ServicerContext
from towpath_server.scheduler.refusals import Refusals


def tell(refusals: Refusals, method: str, context: ServicerContext, error: TowpathError) -> None:
    """Have it recorded, where the error says that the caller is nobody, or may not do this."""
    if not isinstance(error, (Unauthenticated, PermissionDenied, Forbidden)):
        return
    name, origin = method.rpartition("/")[2], auth.origin(context.peer())
    secret = auth.shown(context.invocation_metadata())
    if isinstance(error, Unauthenticated):
        refusals.login(name, secret, origin)
    else:
        refusals.role(name, secret or "", origin)
