"""What a transaction decides about tokens, whatever was known when it was asked for."""

from __future__ import annotations

from dataclasses import replace

from towpath_server.core.errors import TokenNotFound, Unauthenticated
from towpath_server.core.job import DAY, SECOND
from towpath_server.core.records import Role, Token
from towpath_server.scheduler.transactions import tokens
from towpath_server.scheduler.transactions.tokens import Redeem, Redeemed, Revoke, Rotate
from towpath_server.store.base import Store

NOW = 1_800_000_000 * SECOND
INVITATION = Token(
    token_id=7,
    secret_hash="asked",
    name="box",
    tenant="mill",
    user="ann",
    role=Role.ENROLLMENT,
    create_time=NOW,
    expire_time=NOW + 300 * SECOND,
    lifetime=DAY,
)
CREDENTIAL = replace(
    INVITATION, token_id=8, secret_hash="new", role=Role.WORKER, create_time=0, expire_time=None, lifetime=DAY
)


def kept(store: Store, token_id: int) -> Token | None:
    return next(iter(store.records(Token, [(token_id,)])), None)


def test_of_two_in_one_commit_one_redeems_and_each_at_the_commit_s_time(store: Store) -> None:
    later = replace(CREDENTIAL, token_id=9, secret_hash="newer")
    ask = Redeem(7, "asked", CREDENTIAL)
    with store.transaction():
        store.put([INVITATION])
    with store.transaction():
        late = tokens.redeem(store, NOW + 300 * SECOND, [ask])
        wrong = tokens.redeem(store, NOW, [replace(ask, shown="guessed"), replace(ask, token_id=6)])
    assert [type(one) for one in (*late, *wrong)] == [Unauthenticated] * 3
    assert kept(store, 8) is None
    moment = NOW + 300 * SECOND - 1
    with store.transaction():
        first, second = tokens.redeem(store, moment, [ask, Redeem(7, "asked", later)])
    made = replace(CREDENTIAL, create_time=moment, expire_time=moment + DAY)
    assert first == Redeemed(replace(INVITATION, revoke_time=moment), made)
    assert isinstance(second, Unauthenticated)
    assert (kept(store, 8), kept(store, 9)) == (made, None)


def test_a_rotation_looks_at_the_token_as_it_is_kept(store: Store) -> None:
    token = replace(CREDENTIAL, create_time=NOW, expire_time=NOW + DAY)
    with store.transaction():
        store.put([token])
    with store.transaction():
        [first, lost] = tokens.rotate(store, NOW, [Rotate(8, "new", "x", 60), Rotate(8, "new", "y", 10**12)])
    assert isinstance(first, Token)
    # Both were shown the same secret: the second replaces what the first got, and adds nothing to the overlap.
    assert lost == replace(first, secret_hash="y")
    assert (first.previous_hash, first.previous_expire_time) == ("new", NOW + 60)
    with store.transaction():
        [ended] = tokens.rotate(store, NOW + 60, [Rotate(8, "new", "z", 60)])
        [revoked, again] = tokens.revoke(store, NOW + 1, [Revoke(8)] * 2)
        [void] = tokens.rotate(store, NOW + 2, [Rotate(8, "y", "z", 60)])
        [unknown] = tokens.revoke(store, NOW, [Revoke(5)])
    # What was rotated meanwhile stays so.
    assert revoked == again == kept(store, 8) == replace(lost, revoke_time=NOW + 1)
    assert [type(one) for one in (ended, void, unknown)] == [Unauthenticated, Unauthenticated, TokenNotFound]
