# ruff: noqa: N802
"""AuthService: tokens."""

from __future__ import annotations

from towpath.v1 import auth_service_pb2 as pb
from towpath.v1 import auth_service_pb2_grpc
from towpath_server.core.records import Role
from towpath_server.rpc import pages
from towpath_server.rpc.auth import caller
from towpath_server.rpc.calls import Calls
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.records import token_to_proto
from towpath_server.rpc.convert.times import length
from towpath_server.scheduler.access import Access


class AuthServicer(auth_service_pb2_grpc.AuthServiceServicer):
    """Tokens of the caller's tenant."""

    def __init__(self, access: Access, calls: Calls) -> None:
        self._access = access
        self._calls = calls

    async def CreateToken(self, request: pb.CreateTokenRequest, context: object) -> pb.CreateTokenResponse:
        """Makes a token; its secret is shown this once."""
        ttl = max(length(request.ttl), 1) if request.HasField("ttl") else None
        made = await self._access.create(caller(), request.name, request.user, Role(request.role), ttl)
        return pb.CreateTokenResponse(token=token_to_proto(made[0]), secret=made[1])

    async def ListTokens(self, request: pb.ListTokensRequest, context: object) -> pb.ListTokensResponse:
        """Tokens, newest first, page by page."""
        tokens = self._access.tokens(caller())
        page, after = pages.cut(request, tokens, lambda token: (-token.token_id,), token_to_proto)
        return pb.ListTokensResponse(tokens=page, next_page_token=after)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: object) -> pb.RevokeTokenResponse:
        """Makes a token void at once, also for the calls that wait or stream with it."""
        token = await self._access.revoke(caller(), ids.read(ids.TOKEN, request.token_id))
        self._calls.cut(token.token_id)
        return pb.RevokeTokenResponse(token=token_to_proto(token))

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: object) -> pb.WhoAmIResponse:
        """Whose token this call carries."""
        return pb.WhoAmIResponse(token=token_to_proto(self._access.whoami(caller())))
