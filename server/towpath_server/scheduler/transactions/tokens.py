"""Changes of a token: each looks at it as it is kept at that moment, whoever changed it last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from towpath_server.core.errors import LastAdmin, TokenNotFound, TowpathError, Unauthenticated
from towpath_server.core.ids import show
from towpath_server.core.job import SECOND
from towpath_server.core.records import FIRST_TENANT, AuditEvent, Role, Token
from towpath_server.scheduler.transactions.purge import LAST
from towpath_server.scheduler.transactions.recording import record
from towpath_server.store.base import Store
from towpath_server.store.committer import Verb

# Later than any time that a message can tell.
NEVER = 1 << 62
# The end of the year 9999, where a Timestamp ends.
LATEST = 253_402_300_799 * SECOND


@dataclass(frozen=True, slots=True)
class Revoke:
    """Make a token void."""

    token_id: int
    audit: AuditEvent | None = None


@dataclass(frozen=True, slots=True)
class Rotate:
    """Whoever shows the secret behind `shown` wants the one behind `fresh` in its place."""

    token_id: int
    shown: str = field(repr=False)
    fresh: str = field(repr=False)
    overlap: int = 0
    audit: AuditEvent | None = None


@dataclass(frozen=True, slots=True)
class Redeem:
    """Whoever shows the secret behind `shown` wants it turned into this credential, whose times are not set yet."""

    token_id: int
    shown: str = field(repr=False)
    credential: Token
    audit: AuditEvent | None = None


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The invitation, which is void now, and the credential."""

    invitation: Token
    credential: Token


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete those of these tokens that ended at a moment or before."""

    token_ids: tuple[int, ...]
    ended_before: int


def end_time(token: Token) -> int:
    """When the token has ended or will, by its own time or because it was revoked."""
    return min((end for end in (token.revoke_time, token.expire_time) if end is not None), default=NEVER)


def good_until(token: Token, secret_hash: str) -> int:
    """When this secret of the token ends; 0 where it has ended whatever the time is, or never was one."""
    if token.revoke_time is not None:
        return 0
    end = NEVER if token.expire_time is None else token.expire_time
    if secret_hash == token.secret_hash:
        return end
    if secret_hash and secret_hash == token.previous_hash:
        return min(end, token.previous_expire_time or 0)
    return 0


def end_of(now: int, ttl: int | None) -> int | None:
    """When what begins now and lives so long ends; None: never."""
    return None if ttl is None else min(now + ttl, LATEST)


def revoke(store: Store, now: int, items: Sequence[Revoke]) -> list[Token | TowpathError]:
    """Make them void; the tokens then. The first time counts."""
    outcomes: list[Token | TowpathError] = []
    for item in items:
        token = _kept(store, item.token_id)
        if token is not None and _is_last_admin(store, token, now):
            outcomes.append(LastAdmin(token_id=show("tok", item.token_id)))
            continue
        if token is not None and token.revoke_time is None:
            token = replace(token, revoke_time=now)
            store.put([token])
            record(store, [item.audit])
        outcomes.append(token or TokenNotFound(token_id=show("tok", item.token_id)))
    return outcomes


def rotate(store: Store, now: int, items: Sequence[Rotate]) -> list[Token | TowpathError]:
    """Give them new secrets; the tokens then.

    Who shows the secret of before never got the answer to a rotation: nobody has the secret of that one, and it is
    replaced. The one shown ends when it would have ended, in any case.
    """
    outcomes: list[Token | TowpathError] = []
    for item in items:
        token = _valid(store, item.token_id, item.shown, now)
        if token is not None:
            old = item.shown == token.previous_hash
            token = replace(
                token,
                secret_hash=item.fresh,
                previous_hash=item.shown,
                previous_expire_time=min(
                    (token.previous_expire_time or 0) if old else now + item.overlap, token.expire_time or NEVER
                ),
                expire_time=token.expire_time if token.lifetime is None else end_of(now, token.lifetime),
            )
            store.put([token])
            record(store, [item.audit])
        outcomes.append(token or Unauthenticated())
    return outcomes


def redeem(store: Store, now: int, items: Sequence[Redeem]) -> list[Redeemed | TowpathError]:
    """Turn invitations into credentials; the first who comes gets it."""
    outcomes: list[Redeemed | TowpathError] = []
    for item in items:
        invitation = _valid(store, item.token_id, item.shown, now)
        if invitation is None:
            outcomes.append(Unauthenticated())
            continue
        void = replace(invitation, revoke_time=now)
        lifetime = item.credential.lifetime
        credential = replace(item.credential, create_time=now, expire_time=end_of(now, lifetime))
        store.put([void, credential])
        record(store, [item.audit])
        outcomes.append(Redeemed(void, credential))
    return outcomes


def forget(store: Store, now: int, items: Sequence[Forget]) -> list[tuple[int, ...] | TowpathError]:
    """Delete tokens that are over; the ids of those that are not there any more."""
    outcomes: list[tuple[int, ...] | TowpathError] = []
    for item in items:
        kept = store.records(Token, [(token_id,) for token_id in item.token_ids])
        over = [token for token in kept if end_time(token) <= item.ended_before]
        store.remove(over)
        staying = {token.token_id for token in kept} - {token.token_id for token in over}
        outcomes.append(tuple(token_id for token_id in item.token_ids if token_id not in staying))
    return outcomes


def _valid(store: Store, token_id: int, secret_hash: str, now: int) -> Token | None:
    token = _kept(store, token_id)
    return token if token is not None and good_until(token, secret_hash) > now else None


def _is_last_admin(store: Store, token: Token, now: int) -> bool:
    """Whether it is all by which anybody can still make tokens of every tenant."""
    return _runs_the_scheduler(token, now) and not any(
        _runs_the_scheduler(other, now) for other in store.records(Token) if other.token_id != token.token_id
    )


def _runs_the_scheduler(token: Token, now: int) -> bool:
    return (token.tenant, token.role) == (FIRST_TENANT, Role.ADMIN) and good_until(token, token.secret_hash) > now


def _kept(store: Store, token_id: int) -> Token | None:
    # Where others write too, this locks it until the transaction ends.
    return next(iter(store.records(Token, [(token_id,)])), None)


REVOKE = Verb("revoke", revoke)
ROTATE = Verb("rotate", rotate)
REDEEM = Verb("redeem", redeem)
FORGET = Verb("forget", forget, rank=LAST)
