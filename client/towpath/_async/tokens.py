"""Calls on tokens: made, rotated, revoked, and the invitations that workers turn into credentials."""

from __future__ import annotations

from towpath._async.calls import AsyncCalls
from towpath.enums import Role, WorkerShare
from towpath.errors import Unimplemented
from towpath.fleet import Token
from towpath.options import Seconds
from towpath.requests import MADE_OTHERWISE, is_as_asked, share_number
from towpath.v1 import auth_service_pb2
from towpath.values import to_duration


class AsyncTokenCalls(AsyncCalls):
    """Who may call."""

    async def create_token(
        self,
        name: str,
        role: str | Role,
        *,
        user: str = "",
        ttl: Seconds | None = None,
        tenant: str = "",
        share: str | WorkerShare | None = None,
    ) -> tuple[Token, str]:
        """A new token and its secret, which is shown this once. `ttl` in seconds; None: until it is revoked.

        Admins of the tenant `default` can name another `tenant`. With `share="tenant"` its workers may run the jobs of
        all users of their tenant.
        """
        request = auth_service_pb2.CreateTokenRequest(
            name=name,
            user=user,
            role=auth_service_pb2.Role.Value(Role.parse(role).wire_name),
            tenant=tenant,
            share=share_number(share),
        )
        if ttl is not None:
            request.ttl.CopyFrom(to_duration(ttl, "ttl"))
        await self._connection.find()
        # No second try by itself: it would leave a token that nobody knows of.
        response = await self._connection.call(self._stubs.auth.CreateToken, request, retry=False)
        if not is_as_asked(request, response.token):
            await self.revoke_token(response.token.token_id)
            raise Unimplemented(MADE_OTHERWISE)
        return Token.from_proto(response.token), response.secret

    async def tokens(self) -> list[Token]:
        """Tokens, without their secrets."""
        pages = self._connection.pages(self._stubs.auth.ListTokens, auth_service_pb2.ListTokensRequest())
        return [Token.from_proto(token) async for page in pages for token in page.tokens]

    async def revoke_token(self, token_id: str) -> Token:
        """Makes a token void at once."""
        request = auth_service_pb2.RevokeTokenRequest(token_id=token_id)
        return Token.from_proto((await self._connection.call(self._stubs.auth.RevokeToken, request)).token)

    async def rotate_token(self, overlap: Seconds | None = None) -> tuple[Token, str]:
        """This client's own token with a new secret, which is shown this once, and which this client sends from now on.

        The secret of before goes on for `overlap` seconds (an hour) for all others who have it. Where the answer is
        lost, rotate again with the secret of before.
        """
        request = auth_service_pb2.RotateTokenRequest()
        if overlap is not None:
            request.overlap.CopyFrom(to_duration(overlap, "overlap"))
        response = await self._connection.call(self._stubs.auth.RotateToken, request)
        self._connection.use_token(response.secret)
        return Token.from_proto(response.token), response.secret

    async def invite_worker(
        self,
        name: str,
        *,
        user: str = "",
        share: str | WorkerShare | None = None,
        credential_ttl: Seconds | None = None,
    ) -> tuple[Token, str]:
        """An invitation and its secret, which is shown this once: `towpath-worker join` asks for it within 5 minutes.

        It turns it into a credential that lives for `credential_ttl` seconds (90 days) after it was last rotated.
        """
        request = auth_service_pb2.CreateEnrollmentTokenRequest(name=name, user=user, share=share_number(share))
        if credential_ttl is not None:
            request.credential_ttl.CopyFrom(to_duration(credential_ttl, "credential_ttl"))
        await self._connection.find()
        response = await self._connection.call(self._stubs.auth.CreateEnrollmentToken, request, retry=False)
        return Token.from_proto(response.token), response.secret

    async def enroll_worker(self, name: str = "") -> tuple[Token, str]:
        """The credential for the invitation that is this client's token, and its secret, which is shown this once.

        An invitation is redeemed once: where the answer is lost, invite again.
        """
        request = auth_service_pb2.EnrollWorkerRequest(name=name)
        response = await self._connection.call(self._stubs.auth.EnrollWorker, request, retry=False)
        return Token.from_proto(response.token), response.secret

    async def whoami(self) -> Token:
        """The token that this client carries."""
        request = auth_service_pb2.WhoAmIRequest()
        return Token.from_proto((await self._connection.call(self._stubs.auth.WhoAmI, request)).token)
