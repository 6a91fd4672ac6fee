# ruff: noqa: N802
"""AuthService: tokens and invitations."""

from __future__ import annotations

from google.protobuf import duration_pb2

from towpath.v1 import auth_service_pb2 as pb
from towpath.v1 import auth_service_pb2_grpc
from towpath_server.core.job import SECOND
from towpath_server.core.records import Role
from towpath_server.rpc import pages
from towpath_server.rpc.auth import caller
from towpath_server.rpc.convert import ids
from towpath_server.rpc.convert.records import share_of, token_to_proto
from towpath_server.rpc.convert.times import length
from towpath_server.scheduler.access import Access
from towpath_server.scheduler.enrolment import Enrolment

# How long the secret of before goes on after a rotation, unless told otherwise (microseconds).
OVERLAP = 3600 * SECOND


class AuthServicer(auth_service_pb2_grpc.AuthServiceServicer):
    """Tokens of the caller's tenant."""

    def __init__(self, access: Access, enrolment: Enrolment) -> None:
        self._access = access
        self._enrolment = enrolment

    async def CreateToken(self, request: pb.CreateTokenRequest, context: object) -> pb.CreateTokenResponse:
        """Makes a token; its secret is shown this once."""
        ttl = _life(request.ttl) if request.HasField("ttl") else None
        token, secret = await self._access.create(
            caller(),
            request.name,
            request.user,
            Role(request.role),
            ttl,
            tenant=request.tenant,
            share=share_of(request.share),
        )
        return pb.CreateTokenResponse(token=token_to_proto(token), secret=secret)

    async def ListTokens(self, request: pb.ListTokensRequest, context: object) -> pb.ListTokensResponse:
        """Tokens, newest first, page by page."""
        tokens = self._access.tokens(caller())
        page, after = pages.cut(request, tokens, lambda token: (-token.token_id,), token_to_proto)
        return pb.ListTokensResponse(tokens=page, next_page_token=after)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: object) -> pb.RevokeTokenResponse:
        """Makes a token void at once, also for the calls that wait or stream with it."""
        token = await self._access.revoke(caller(), ids.read(ids.TOKEN, request.token_id))
        return pb.RevokeTokenResponse(token=token_to_proto(token))

    async def RotateToken(self, request: pb.RotateTokenRequest, context: object) -> pb.RotateTokenResponse:
        """Gives the caller's own token a new secret, which is shown this once."""
        overlap = length(request.overlap) if request.HasField("overlap") else OVERLAP
        token, secret = await self._access.rotate(caller(), overlap)
        return pb.RotateTokenResponse(token=token_to_proto(token), secret=secret)

    async def CreateEnrollmentToken(
        self, request: pb.CreateEnrollmentTokenRequest, context: object
    ) -> pb.CreateEnrollmentTokenResponse:
        """Invites a worker; the secret is shown this once."""
        lifetime = _life(request.credential_ttl) if request.HasField("credential_ttl") else None
        token, secret = await self._enrolment.invite(
            caller(), request.name, request.user, share_of(request.share), lifetime
        )
        return pb.CreateEnrollmentTokenResponse(token=token_to_proto(token), secret=secret)

    async def EnrollWorker(self, request: pb.EnrollWorkerRequest, context: object) -> pb.EnrollWorkerResponse:
        """Turns the caller's invitation into a worker's credential, whose secret is shown this once."""
        token, secret = await self._enrolment.redeem(caller(), request.name)
        return pb.EnrollWorkerResponse(token=token_to_proto(token), secret=secret)

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: object) -> pb.WhoAmIResponse:
        """Whose token this call carries."""
        return pb.WhoAmIResponse(token=token_to_proto(self._access.whoami(caller())))


def _life(given: duration_pb2.Duration) -> int:
    # Nanoseconds that make up no microsecond are still some time.
    return max(length(given), 1)
