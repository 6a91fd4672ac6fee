"""What a transaction decides about tokens, whatever was known when it was asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from towpath_server.core.errors import LastAdmin, TokenNotFound, Unauthenticated
from towpath_server.core.job import DAY, SECOND
from towpath_server.core.records import Role, Share, Token
from towpath_server.rpc.roles import ROLES
from towpath_server.scheduler.transactions import tokens
from towpath_server.scheduler.transactions.tokens import Redeem, Redeemed, Revoke, Rotate
from towpath_server.store.base import Store
from towpath_server.store.record_rows import TABLES

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


def test_the_last_admin_who_runs_the_scheduler_stays(store: Store) -> None:
    admin = replace(CREDENTIAL, tenant="default", role=Role.ADMIN, create_time=NOW)
    others = [
        replace(admin, token_id=11, secret_hash="a", role=Role.OPERATOR),
        replace(admin, token_id=12, secret_hash="b", tenant="mill"),
        replace(admin, token_id=13, secret_hash="c", expire_time=NOW),
    ]
    with store.transaction():
        store.put([admin, *others])
    with store.transaction():
        [refused] = tokens.revoke(store, NOW, [Revoke(8)])
        # Until it ends itself, another one is enough.
        first, second = tokens.revoke(store, NOW - 1, [Revoke(8), Revoke(13)])
        assert isinstance(tokens.revoke(store, NOW, [Revoke(8)])[0], Token)
    assert [type(one) for one in (refused, first, second)] == [LastAdmin, Token, LastAdmin]


def test_what_a_later_version_lets_a_token_be_is_kept_and_lets_it_do_nothing() -> None:
    table = TABLES[Token]
    row = [
        {"role": 40, "share": 41}.get(name, value)
        for name, value in zip(table.columns, table.row(CREDENTIAL), strict=True)
    ]
    token = table.read(row)
    assert table.row(token) == tuple(row)
    assert not any(token.role in roles for roles in ROLES.values())
    assert token.share is not Share.TENANT
    with pytest.raises(ValueError, match="0 is not a valid Role"):
        Role(0)
