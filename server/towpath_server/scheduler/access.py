"""Tokens: who calls. A secret is shown once; only its SHA-256 is kept.

A secret is found by its hash in a dictionary. How long that takes tells nothing that helps to guess one: who could
steer the hash would have to know the secret of which it is the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from towpath_server.core.errors import Forbidden, InvalidArgument, TokenNotFound, TooBusy, Unauthenticated, Violation
from towpath_server.core.ids import show
from towpath_server.core.job import SECOND
from towpath_server.core.quotas import Rate
from towpath_server.core.records import FIRST_TENANT, AuditEvent, Principal, Role, Share, Token
from towpath_server.scheduler import audit
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.records import KEEP, KEEP_FIRST, Keep, KeepFirst
from towpath_server.scheduler.transactions.tokens import (
    NEVER,
    REVOKE,
    ROTATE,
    Revoke,
    Rotate,
    end_of,
    end_time,
    good_until,
)

__all__ = ["FIRST_TENANT", "NEVER", "Access", "hash_of"]

SECRET_BITS = 256
FIRST_TOKEN = 1
# How often a token is rotated, at once and then a minute, and of how many tokens this is known: each is on record.
ROTATIONS, ROTATIONS_A_MINUTE, MOST_ROTATING = 10, 6, 10_000
# What a token must be to let a worker share anything.
SHARING = frozenset({Role.WORKER, Role.ADMIN})


class Access:
    """Making, checking, rotating and revoking tokens."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tokens: dict[int, Token] = {}
        # Each token by its secret, and by the one of before while that goes on.
        self._by_hash: dict[str, int] = {}
        self._rotations: Rate[int] = Rate(ROTATIONS_A_MINUTE, ROTATIONS, MOST_ROTATING)
        self._on_changed: Callable[[int], None] = lambda token_id: None
        for token in state.store.records(Token):
            self.meet(token)

    @property
    def is_empty(self) -> bool:
        """Whether no token was ever made that lasts: the first start."""
        return all(token.expire_time is not None for token in self._tokens.values())

    def now(self) -> int:
        """The time by which tokens end."""
        return self._state.clock.wall()

    def authenticate(self, secret: str) -> Principal:
        """Whose secret this is. Raises `Unauthenticated`, the same for every kind of wrong one."""
        secret_hash = hash_of(secret)
        token = self._tokens.get(self._by_hash.get(secret_hash, 0))
        if token is None or (end := good_until(token, secret_hash)) <= self.now():
            raise Unauthenticated
        return Principal(
            token.token_id,
            token.tenant,
            token.user,
            token.role,
            expire_time=None if end == NEVER else end,
            share=token.share,
            # The text that is kept anyway: there may be thousands of callers.
            secret_hash=token.secret_hash if secret_hash == token.secret_hash else token.previous_hash,
        )

    def of_secret(self, secret: str) -> Token | None:
        """The token that this is or was the secret of, whatever has become of it."""
        return self._tokens.get(self._by_hash.get(hash_of(secret), 0))

    def good_until(self, principal: Principal) -> int:
        """When the secret ends that this caller has shown; 0 where it has ended whatever the time is."""
        token = self._tokens.get(principal.token_id)
        return 0 if token is None else good_until(token, principal.secret_hash)

    async def create(
        self,
        principal: Principal,
        name: str,
        user: str,
        role: Role,
        ttl: int | None,
        *,
        tenant: str = "",
        share: Share = Share.USER,
    ) -> tuple[Token, str]:
        """A new token of the caller's tenant, with its secret. `ttl` in microseconds; None: until it is revoked.

        One of another tenant is on record in both: there with no user, token or address, and by whom in its details.

        Raises `Forbidden` for another tenant, unless the caller runs the scheduler.
        """
        if role is Role.ENROLLMENT:
            raise _wrong("role", "is given by an invitation alone: `towpath workers invite`")
        if share is Share.TENANT and role not in SHARING:
            raise _wrong("share", "is for tokens of workers: only those with the role worker or admin run jobs")
        tenant = tenant or principal.tenant
        if tenant != principal.tenant and (principal.tenant, principal.role) != (FIRST_TENANT, Role.ADMIN):
            raise Forbidden(what=f"make tokens of another tenant: only admins of the tenant {FIRST_TENANT} may")
        return await self.issue(tenant, user or principal.user, name, role, ttl, share=share, by=principal)

    async def issue(
        self,
        tenant: str,
        user: str,
        name: str,
        role: Role,
        ttl: int | None = None,
        *,
        secret: str = "",
        share: Share = Share.USER,
        lifetime: int | None = None,
        by: Principal | None = None,
    ) -> tuple[Token, str]:
        """A new token of any tenant, with a new secret unless one is given: for the scheduler itself, or `by` whom."""
        now, secret = self.now(), secret or self.new_secret()
        token = Token(
            token_id=self._state.ids.next(),
            secret_hash=hash_of(secret),
            name=name,
            tenant=tenant,
            user=user,
            role=role,
            create_time=now,
            expire_time=end_of(now, ttl),
            share=share,
            lifetime=lifetime,
        )
        told = [self._made(token, by, ttl)]
        if by is not None and by.tenant != tenant:
            theirs = audit.event(self._state, None, told[0].action, told[0].subject)
            details = {**told[0].details, "by": f"{by.tenant}/{by.user}"}
            told.append(replace(theirs, tenant=tenant, origin="", details=details))
        await self._state.carry_out(self._keep(token, *told))
        return token, secret

    def new_secret(self) -> str:
        """What a token is proved by."""
        return f"tow_{self._state.rng.getrandbits(SECRET_BITS):064x}"

    async def issue_first(self, tenant: str, user: str, secret: str) -> bool:
        """The first admin's token, with this secret. Of several schedulers that begin at once only one makes it."""
        token = Token(
            token_id=FIRST_TOKEN,
            secret_hash=hash_of(secret),
            name="first admin",
            tenant=tenant,
            user=user,
            role=Role.ADMIN,
            create_time=self.now(),
        )
        first = KeepFirst(token, self._made(token, None, None))
        kept = await self._state.carry_out(self._state.committer.submit(KEEP_FIRST, first))
        self.meet(kept)
        return kept.secret_hash == token.secret_hash

    def tokens(self, principal: Principal) -> list[Token]:
        """The tokens that this caller may see, newest first."""
        mine = [token for token in self._tokens.values() if principal.owns(token.tenant, token.user)]
        return sorted(mine, key=lambda token: -token.token_id)

    def standing(self, principal: Principal, role: Role) -> int:
        """How many tokens of this role the caller's user has that have not ended."""
        now, whose = self.now(), (principal.tenant, principal.user, role)
        return sum(
            (token.tenant, token.user, token.role) == whose and good_until(token, token.secret_hash) > now
            for token in self._tokens.values()
        )

    def ended(self, role: Role, before: int) -> list[int]:
        """The tokens of this role that ended at a moment or before."""
        return [one.token_id for one in self._tokens.values() if one.role is role and end_time(one) <= before]

    async def revoke(self, principal: Principal, token_id: int) -> Token:
        """Make a token void. Raises `TokenNotFound`, or `LastAdmin`."""
        known = self._tokens.get(token_id)
        if known is None or not principal.owns(known.tenant, known.user):
            raise TokenNotFound(token_id=show("tok", token_id))
        told = audit.event(
            self._state, principal, audit.TOKEN_REVOKED, show("tok", token_id), name=known.name, of=known.user
        )
        return await self._state.carry_out(self._revoke(Revoke(token_id, told)))

    async def rotate(self, principal: Principal, overlap: int) -> tuple[Token, str]:
        """The caller's own token with a new secret. The one shown goes on for `overlap` microseconds.

        Raises `Unauthenticated` where it has ended meanwhile, and `TooBusy` where it was rotated again and again.
        """
        if wait := self._rotations.take(principal.token_id, self._state.clock.steady()):
            often = TooBusy(what="this token was rotated many times within a minute")
            often.retry_after = wait
            raise often
        secret = self.new_secret()
        told = audit.event(
            self._state, principal, audit.TOKEN_ROTATED, show("tok", principal.token_id), overlap_s=overlap // SECOND
        )
        asked = Rotate(principal.token_id, principal.secret_hash, hash_of(secret), overlap, told)
        return await self._state.carry_out(self._rotate(asked)), secret

    def whoami(self, principal: Principal) -> Token:
        """The caller's token."""
        if principal.token_id not in self._tokens:
            raise Unauthenticated
        return self._tokens[principal.token_id]

    def _made(self, token: Token, by: Principal | None, ttl: int | None) -> AuditEvent:
        invited = token.role is Role.ENROLLMENT
        return audit.event(
            self._state,
            by,
            audit.ENROLMENT_INVITED if invited else audit.TOKEN_CREATED,
            show("tok", token.token_id),
            name=token.name,
            role=token.role.name.lower(),
            tenant=token.tenant if by is None or by.tenant != token.tenant else None,
            of=token.user,
            share="tenant" if token.share is Share.TENANT else None,
            ttl_s=None if ttl is None else ttl // SECOND,
        )

    async def _keep(self, token: Token, *told: AuditEvent) -> None:
        await self._state.committer.submit(KEEP, Keep((token,), audit=told))
        self.meet(token)

    async def _revoke(self, asked: Revoke) -> Token:
        revoked = await self._state.committer.submit(REVOKE, asked)
        self.hear(revoked)
        return revoked

    async def _rotate(self, asked: Rotate) -> Token:
        rotated = await self._state.committer.submit(ROTATE, asked)
        self.hear(rotated)
        return rotated

    def meet(self, token: Token) -> None:
        """A token as it is kept now."""
        before = self._tokens.get(token.token_id)
        if before is not None:
            self._by_hash.pop(before.secret_hash, None)
            self._by_hash.pop(before.previous_hash, None)
        self._tokens[token.token_id] = token
        self._by_hash[token.secret_hash] = token.token_id
        if token.previous_hash:
            self._by_hash[token.previous_hash] = token.token_id

    def forget(self, token_id: int) -> None:
        """A token is kept no more, here or at another scheduler."""
        token = self._tokens.pop(token_id, None)
        if token is not None:
            self._by_hash.pop(token.secret_hash, None)
            self._by_hash.pop(token.previous_hash, None)
            self._on_changed(token_id)

    def hear(self, token: Token) -> None:
        """A token has changed, here or at another scheduler: calls that go on with it may have to end."""
        known = self._tokens.get(token.token_id)
        self.meet(token)
        if known is not None and known != token:
            self._on_changed(token.token_id)

    def on_changed(self, tell: Callable[[int], None]) -> None:
        """Whom to tell of the ids of tokens that were made void or rotated."""
        self._on_changed = tell


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _wrong(field: str, description: str) -> InvalidArgument:
    return InvalidArgument((Violation(field, description),))
