"""What a server is set to lose is said at the start, in a line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from support.postgres import shared
from towpath_server.store.postgres import PostgresStore, checks

# The tests' server is meant to be thrown away.
FLEETING = {"fsync", "full_page_writes", "synchronous_commit"}


@pytest.fixture
def url() -> Iterator[str]:
    """Of an empty database."""
    name = shared().database()
    yield shared().url(name)
    shared().drop(name)


def warned(url: str) -> list[str]:
    """What is said of a store."""
    with closing(PostgresStore(url)) as store:
        for line in store.warnings:
            assert "\n" not in line
            assert line.endswith(".")
        return list(store.warnings)


def others(url: str) -> list[str]:
    """The same without what is so on this server."""
    return [line for line in warned(url) if line.split()[0] not in FLEETING]


def test_a_server_that_loses_what_it_acknowledged_is_named(url: str) -> None:
    assert {line.split()[0] for line in warned(url)} == FLEETING
    assert [*checks._disk(dict.fromkeys(FLEETING, "on"))] == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("default_transaction_isolation=serializable", "Set it to 'read committed' for this user"),
        ("idle_session_timeout=5000", "idle_session_timeout is 5000 ms"),
        ("synchronous_commit=on", ""),
    ],
)
def test_settings_of_a_user_are_looked_at_as_they_are_in_force(url: str, setting: str, words: str) -> None:
    found = others(f"{url}&options=-c%20{setting.replace('=', '%3D')}")
    assert len(found) == bool(words)
    assert not words or words in found[0]
    if not words:
        assert len(warned(f"{url}&options=-c%20{setting.replace('=', '%3D')}")) == len(FLEETING) - 1


@pytest.mark.parametrize(
    ("names", "commit", "states", "words"),
    [
        ("", "on", [], []),
        # Whoever may not look at standbys sees rows without states.
        ("", "on", [None, None], ["2 of 2 standbys follow asynchronously"]),
        ("", "on", ["async"], ["1 of 1 standbys follow asynchronously: a failover to one of them loses"]),
        ("one", "on", ["sync", "async"], ["1 of 2 standbys"]),
        ("one", "on", ["sync"], []),
        ("one", "on", [None], []),
        ("one", "local", ["sync"], ["a failover to one loses what was acknowledged last"]),
        (" ", "local", [], []),
    ],
)
def test_what_a_failover_loses_is_said(names: str, commit: str, states: list[str | None], words: list[str]) -> None:
    settings = {"synchronous_commit": commit, "synchronous_standby_names": names}
    found = list(checks._standbys(settings, states))
    assert len(found) == len(words)
    assert all(part in line for part, line in zip(words, found, strict=True))


def test_a_server_without_room_for_one_more_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert others(url) == []
    monkeypatch.setattr(checks, "CONNECTIONS", 10_000)
    assert any("Raise max_connections" in line for line in others(url))
    monkeypatch.undo()
    assert list(checks._room(100, -1, -1)) == []
    assert "This database may have 5 connections" in next(checks._room(100, -1, 5))
    assert "This user may have 0 connections" in next(checks._room(100, 0, -1))


def test_a_transaction_that_was_prepared_and_forgotten_is_named() -> None:
    assert list(checks._horizon(0)) == []
    assert "pg_prepared_xacts" in next(checks._horizon(2))
