"""Tokens: who calls. A secret is shown once; only its SHA-256 is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from towpath_server.core.errors import TokenNotFound, Unauthenticated
from towpath_server.core.ids import show
from towpath_server.core.records import Principal, Role, Token
from towpath_server.scheduler.state import State
from towpath_server.scheduler.transactions.records import KEEP, KEEP_FIRST, Keep

SECRET_BITS = 256
FIRST_TOKEN = 1


class Access:
    """Making, checking and revoking tokens."""

    def __init__(self, state: State) -> None:
        self._state = state
        tokens = state.store.records(Token)
        self._by_hash = {token.secret_hash: token for token in tokens}
        self._on_revoked: Callable[[int], None] = lambda token_id: None

    @property
    def is_empty(self) -> bool:
        """Whether no token was ever made that lasts: the first start."""
        return all(token.expire_time is not None for token in self._by_hash.values())

    def authenticate(self, secret: str) -> Principal:
        """Whose secret this is. Raises `Unauthenticated`, the same for every kind of wrong one."""
        token = self._by_hash.get(_hash(secret))
        if token is None or not self._is_valid(token):
            raise Unauthenticated
        return Principal(token.token_id, token.tenant, token.user, token.role)

    async def create(
        self, principal: Principal, name: str, user: str, role: Role, ttl: int | None
    ) -> tuple[Token, str]:
        """A new token of the caller's tenant, with its secret. `ttl` in microseconds; None: until it is revoked."""
        return await self.issue(principal.tenant, user or principal.user, name, role, ttl)

    async def issue(
        self, tenant: str, user: str, name: str, role: Role, ttl: int | None = None, *, secret: str = ""
    ) -> tuple[Token, str]:
        """A new token of any tenant, with a new secret unless one is given: for the scheduler itself."""
        return await self._state.carry_out(self._issue(tenant, user, name, role, ttl, secret or self.new_secret()))

    def new_secret(self) -> str:
        """What a token is proved by."""
        return f"tow_{self._state.rng.getrandbits(SECRET_BITS):064x}"

    async def _issue(
        self, tenant: str, user: str, name: str, role: Role, ttl: int | None, secret: str
    ) -> tuple[Token, str]:
        now = self._state.clock.wall()
        token = Token(
            token_id=self._state.ids.next(),
            secret_hash=_hash(secret),
            name=name,
            tenant=tenant,
            user=user,
            role=role,
            create_time=now,
            expire_time=now + ttl if ttl is not None else None,
        )
        await self._keep(token)
        return token, secret

    async def issue_first(self, tenant: str, user: str, secret: str) -> bool:
        """The first admin's token, with this secret. Of several schedulers that begin at once only one makes it."""
        token = Token(
            token_id=FIRST_TOKEN,
            secret_hash=_hash(secret),
            name="first admin",
            tenant=tenant,
            user=user,
            role=Role.ADMIN,
            create_time=self._state.clock.wall(),
        )
        kept = await self._state.carry_out(self._state.committer.submit(KEEP_FIRST, token))
        self.meet(kept)
        return kept.secret_hash == token.secret_hash

    def tokens(self, principal: Principal) -> list[Token]:
        """The tokens that this caller may see, newest first."""
        mine = [token for token in self._by_hash.values() if principal.owns(token.tenant, token.user)]
        return sorted(mine, key=lambda token: -token.token_id)

    async def revoke(self, principal: Principal, token_id: int) -> Token:
        """Make a token void. Raises `TokenNotFound`."""
        for token in self.tokens(principal):
            if token.token_id == token_id:
                revoked = replace(token, revoke_time=token.revoke_time or self._state.clock.wall())
                await self._state.carry_out(self._keep(revoked))
                return revoked
        raise TokenNotFound(token_id=show("tok", token_id))

    def whoami(self, principal: Principal) -> Token:
        """The caller's token."""
        for token in self._by_hash.values():
            if token.token_id == principal.token_id:
                return token
        raise Unauthenticated

    async def _keep(self, token: Token) -> None:
        await self._state.committer.submit(KEEP, Keep((token,)))
        self.meet(token)

    def meet(self, token: Token) -> None:
        """A token as it is kept now."""
        self._by_hash[token.secret_hash] = token

    def hear(self, token: Token) -> None:
        """Another scheduler has made it or made it void."""
        known = self._by_hash.get(token.secret_hash)
        self.meet(token)
        if token.revoke_time is not None and (known is None or known.revoke_time is None):
            self._on_revoked(token.token_id)

    def on_revoked(self, tell: Callable[[int], None]) -> None:
        """Whom to tell of the ids of tokens that were made void elsewhere."""
        self._on_revoked = tell

    def _is_valid(self, token: Token) -> bool:
        if token.revoke_time is not None:
            return False
        return token.expire_time is None or token.expire_time > self._state.clock.wall()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
