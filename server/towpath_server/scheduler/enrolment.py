"""Invitations: a token of five minutes that a machine turns, once, into a credential of its own."""

from __future__ import annotations

from towpath_server.core.errors import Forbidden, TooBusy
from towpath_server.core.ids import show
from towpath_server.core.job import DAY, SECOND
from towpath_server.core.records import Principal, Role, Share, Token
from towpath_server.scheduler import audit
from towpath_server.scheduler.access import Access, hash_of
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.tokens import FORGET, REDEEM, Forget, Redeem

# How long an invitation stands, and a credential after it was last rotated, unless told otherwise (microseconds).
INVITATION = 300 * SECOND
CREDENTIAL = 90 * DAY
# How many of a submitter's stand at a time: each is kept, and on record, for good.
MOST_STANDING = 100

# How long one is kept after its end: whoever comes late is told that it is over, and not that it never was.
KEPT = DAY

# Who invites workers for others, and lets them be shared.
_FOR_OTHERS = frozenset({Role.ADMIN, Role.OPERATOR})


class Enrolment:
    """Inviting workers, and taking them in."""

    def __init__(self, state: State, access: Access) -> None:
        self._state = state
        self._access = access

    async def invite(
        self, principal: Principal, name: str, user: str, share: Share, lifetime: int | None
    ) -> tuple[Token, str]:
        """An invitation, with its secret; the credential will live for `lifetime` microseconds at a time.

        Raises `Forbidden` where a submitter invites for somebody else, or lets a worker be shared, and `TooBusy` where
        many of a submitter's stand already.
        """
        user = user or principal.user
        if principal.role not in _FOR_OTHERS:
            if user != principal.user:
                raise Forbidden(what="invite workers of another user: ask an admin or an operator")
            if share is Share.TENANT:
                raise Forbidden(what="let a worker be shared with the tenant: ask an admin or an operator")
            if self._access.standing(principal, Role.ENROLLMENT) >= MOST_STANDING:
                raise TooBusy(what=f"{MOST_STANDING} invitations of yours are neither used nor over")
        return await self._access.issue(
            principal.tenant,
            user,
            name,
            Role.ENROLLMENT,
            INVITATION,
            share=share,
            lifetime=lifetime or CREDENTIAL,
            by=principal,
        )

    async def redeem(self, principal: Principal, name: str) -> tuple[Token, str]:
        """The credential for the invitation that the caller has shown, with its secret.

        Raises `Unauthenticated` where somebody else was quicker, or it has ended. Where the answer is lost, so is the
        credential: nobody has its secret, and the machine is invited again.
        """
        invitation = self._access.whoami(principal)
        secret = self._access.new_secret()
        credential = Token(
            token_id=self._state.ids.next(),
            secret_hash=hash_of(secret),
            name=name or invitation.name,
            tenant=invitation.tenant,
            user=invitation.user,
            role=Role.WORKER,
            create_time=0,
            share=invitation.share,
            lifetime=invitation.lifetime,
        )
        told = audit.event(
            self._state,
            principal,
            audit.ENROLMENT_REDEEMED,
            show("tok", credential.token_id),
            name=credential.name,
            invitation=show("tok", invitation.token_id),
        )
        asked = Redeem(principal.token_id, principal.secret_hash, credential, told)
        return await self._state.carry_out(self._redeem(asked)), secret

    async def forget_ended(self, most: int) -> int:
        """Delete invitations that ended long ago, at most so many; how many they were. The audit keeps their story."""
        before = self._access.now() - KEPT
        ended = self._access.ended(Role.ENROLLMENT, before)[:most]
        if not ended:
            return 0
        gone = await self._state.committer.submit(FORGET, Forget(tuple(ended), before))
        for token_id in gone:
            self._access.forget(token_id)
        return len(gone)

    async def _redeem(self, asked: Redeem) -> Token:
        done = await self._state.committer.submit(REDEEM, asked)
        self._access.hear(done.invitation)
        self._access.meet(done.credential)
        return done.credential
